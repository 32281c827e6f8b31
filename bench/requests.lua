-- wrk -s requests.lua URL -- METHOD PATHS [BODY]: a request to each path that
-- the file PATHS lists, in turn and from the first again, with what the file
-- BODY holds.

local requests = {}
local at = 0

function init(args)
    local body

    if args[3] then
        body = io.open(args[3]):read("a")
        wrk.headers["Content-Type"] = "application/json"
    end

    for path in io.lines(args[2]) do
        requests[#requests + 1] = wrk.format(args[1], path, nil, body)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end
