# Sourced by the examples. Against `make demo` nothing needs to be set; elsewhere set
#   STRIPEMETER_URL   address of the service           (http://127.0.0.1:3000)
#   STRIPEMETER_KEY   an API key of the tenant         (the demo answers loopback without one)
#   TENANT, CUSTOMER  whom the example is about        (demo, cust_northwind)
URL=${STRIPEMETER_URL:-http://127.0.0.1:3000}
TENANT=${TENANT:-demo}
CUSTOMER=${CUSTOMER:-cust_northwind}

# call METHOD PATH [BODY]: print the answer's JSON; fail loudly on any refusal.
call() {
    set -- "$1" "$URL$2" "${3:-}"
    if [ -n "${STRIPEMETER_KEY:-}" ]; then
        curl --silent --show-error --fail-with-body -X "$1" "$2" ${3:+--data "$3"} \
            -H "Content-Type: application/json" -H "Authorization: Bearer $STRIPEMETER_KEY"
    else
        curl --silent --show-error --fail-with-body -X "$1" "$2" ${3:+--data "$3"} \
            -H "Content-Type: application/json"
    fi
    echo
}
