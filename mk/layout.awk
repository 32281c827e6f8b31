# The part of nginx's layout that a machine can check.

function bad(what) {
    printf "%s:%d: %s\n", FILENAME, FNR, what
    failed = 1
}

length > 80       { bad("longer than 80 columns") }
/\t/              { bad("a tab") }
/[ \r]$/          { bad("white space at the end of the line") }
/[^ -~\t]/        { bad("not ASCII") }
FNR == 1 && !/^\/\*/ { bad("no comment that says what the file is") }
END               { exit failed }
