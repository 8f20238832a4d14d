-- For wrk: posts the lines of a file in turn, and ends with one line of JSON.
-- usage: wrk ... -s requests.lua URL -- FILE
local bodies = {}
local next_body = 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    bodies[#bodies + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
  end
end

function request()
  next_body = next_body % #bodies + 1
  return bodies[next_body]
end

function done(summary, latency)
  local e = summary.errors
  -- refused: connections that nobody took, which wrk notices at the first write
  io.write(string.format('{"requests": %d, "errors": %d, "refused": %d, "p50": %.3f, "p99": %.3f}\n',
    summary.requests, e.read + e.status + e.timeout, e.connect + e.write,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
