-- wrk: POST one article after the other.

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{"title":"A title of some length","text":"]]
    .. string.rep("All work and no play. ", 8)
    .. [[","rating":4.5,"published":true,"tags":["one","two"]}]]
