<< turnout.yaml
version: 1
state: { dir: state, follow: { file: .local_context/bg_state.json, field: active_version } }
balancer: { kind: embedded }
control: { listen: "127.0.0.1:9180" }
services:
  app:
    listen: 127.0.0.1:5004
    blue: { servers: ["http://127.0.0.1:5005"] }
    green: { servers: ["http://127.0.0.1:5006"] }
    health: { path: /health, interval: 200ms, unhealthy_after: 1 }
.
<< .local_context/bg_state.json
{"active_version": "blue", "blue": {"port": 5005}, "green": {"port": 5006}}
.
& turnout sample-app --color blue --port 5005
& turnout sample-app --color green --port 5006
# seed 002:38 traffic_router start: reads the active version from bg_state.json (002:16)
& turnout serve
until curl -sf http://127.0.0.1:9180/readyz
until turnout status -o json | jq -e '.services[0].servers.green[0].health == "healthy"'
curl -s http://127.0.0.1:5004/__router_health
= "active_version":"blue"
# seed 002:273 cat .local_context/bg_state.json
cat .local_context/bg_state.json
= "active_version": "blue"
# seed 002:168 the other tool switches: the router follows without a restart
sed -i 's/"active_version": "blue"/"active_version": "green"/' .local_context/bg_state.json
until curl -s http://127.0.0.1:5004/__router_health | grep '"active_version":"green"'
curl -s http://localhost:5004/health
= "environment":"green"
# seed 002:176 and so does its rollback
sed -i 's/"active_version": "green"/"active_version": "blue"/' .local_context/bg_state.json
until curl -s http://127.0.0.1:5004/__router_health | grep '"active_version":"blue"'
# seed 002:279 there is one source of truth: a switch by another way is refused, and names the file
exits 1: turnout switch green
= bg_state.json
