<< turnout.yaml
version: 1
state: { dir: state }
balancer: { kind: embedded }
control: { listen: "127.0.0.1:9180" }
include: [services.d/*.yaml]
services:
  other:
    hosts: [other.com]
    listen: 127.0.0.1:8080
    target: other:3000
.
<< hosts
127.0.0.1 localhost
127.0.0.2 blog
127.0.0.4 blog
.
<< blue-1/index.html
blog-blue-1
.
<< blue-2/index.html
blog-blue-2
.
<< green/index.html
blog-green-1
.
<< blue-1/up
up
.
<< blue-2/up
up
.
<< green/up
up
.
# seed 004:34 the containers; names are those of a hosts file of the router's own, where the page has Docker's
& python3 -m http.server 3000 --bind 127.0.0.2 --directory blue-1
& python3 -m http.server 3000 --bind 127.0.0.4 --directory blue-2
& python3 -m http.server 3000 --bind 127.0.0.3 --directory green
& unshare -m --propagation private sh -ec 'mount --bind hosts /etc/hosts; exec turnout serve'
until curl -sf http://127.0.0.1:9180/readyz
until curl -sf http://127.0.0.2:3000/up && curl -sf http://127.0.0.3:3000/up && curl -sf http://127.0.0.4:3000/up
# seed 004:14 luma-proxy deploy --host blog.com --target blog:3000 --project myproject
turnout service set blog --host blog.com --target blog:3000 --project myproject
= blog set
cat services.d/blog.yaml
= target: "blog:3000"
turnout service list
= myproject
# seed 004:34 the request and who answers it
for i in {1..10}; do curl -sf -H 'Host: blog.com' http://localhost:8080/; done | sort -u
= blog-blue-1
= blog-blue-2
not blog-green
# seed 004:74 what the router knows of a service
until turnout status blog -o json | jq -e '.service == "blog" and .target == "blog:3000" and .project == "myproject" and .health == "healthy"'
# seed 004:52 atomic switch of the alias
printf '127.0.0.1 localhost\n127.0.0.3 blog\n' > hosts
until curl -sf -H 'Host: blog.com' http://localhost:8080/ | grep blog-green-1
for i in {1..10}; do curl -sf -H 'Host: blog.com' http://localhost:8080/; done | sort -u
= blog-green-1
not blog-blue
# seed 004:106 only needed the first time
turnout service set blog --host blog.com --target blog:3000 --project myproject
= nothing to do
# seed 004:59 health checks of /up; every 30 s is the default, too long to wait for here
sed -i 's|^    target: .*|&\n    health: { interval: 100ms }|' services.d/blog.yaml
until turnout status blog -o json | jq -e '.health == "healthy"'
mv green/up green/down
# seed 004:60 temporarily blocked
until test "$(curl -s -o /dev/null -w '%{http_code}' -H 'Host: blog.com' http://localhost:8080/)" = 503
exits 1: turnout status blog --exit-code
= Down
# seed 004:61 automatic recovery
mv green/down green/up
until curl -sf -H 'Host: blog.com' http://localhost:8080/ | grep blog-green-1
until turnout status blog --exit-code
= Stable
