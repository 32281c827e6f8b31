# Runs nginx's configure in the current directory, a copy of nginx-dev's tree,
# with the flags that Debian's nginx was built with: the module's signature
# must equal its own.  bash, for conf_flags is one of its arrays.

. ./conf_flags

if ./configure "${NGX_CONF_FLAGS[@]}" \
       --with-cc-opt="$OPT" --with-ld-opt="$LD_OPT" \
       --add-dynamic-module="$MODULE_DIR" >configure.log 2>&1
then
    exit 0
fi

grep 'error:' configure.log >&2 || tail -n 5 configure.log >&2
exit 1
