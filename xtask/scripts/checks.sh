# What the scripts that run in the sealed box share: checks that are counted, and waiting. Sourced, after `work` is set
# to a directory.
passed=0 failed=0 skipped=0

# check NAME EXPECTED COMMAND...: the command's output, its last line if there are several, is what was expected.
check() {
    local name=$1 expected=$2 output status
    shift 2
    output=$("$@" 2>"$work/errors" </dev/null)
    status=$?
    if [[ $status = 0 && $(tail -n 1 <<<"$output") = "$expected" ]]; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name: status $status, output '${output//$'\n'/ }', expected '$expected': $(tail -n 1 "$work/errors")"
    fi
}

# refuse NAME TEXT COMMAND...: the command fails, and says TEXT (a pattern of grep, in any case) on standard error.
refuse() {
    local name=$1 text=$2 status
    shift 2
    "$@" >/dev/null 2>"$work/errors" </dev/null
    status=$?
    if [[ $status != 0 ]] && grep -qi -- "$text" "$work/errors"; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name: status $status, and it should fail and say '$text': $(tail -n 1 "$work/errors")"
    fi
}

skip() {
    skipped=$((skipped + 1))
    echo "skip  $1: $2"
}

# until_true SECONDS COMMAND...: waits for a command to succeed.
until_true() {
    local tries=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [[ $tries -gt 0 ]] || return 1
        sleep 0.2
    done
}

# The closing line; the status says whether all is well.
conclude() {
    echo
    echo "$passed passed, $failed failed, $skipped skipped"
    [[ $failed = 0 ]]
}
