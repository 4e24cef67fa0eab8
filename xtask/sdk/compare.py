"""compare OURS THEIRS DIFFERENCES: two records beside each other, step by step.

A difference passes if a line of DIFFERENCES ("step: reason") tells of it. A line there that tells of no difference, or
of no step, fails: the list holds nothing that is not needed.
"""

import json
import sys


def reasons(path):
    """The steps that may differ, and why."""
    known = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, _, reason = line.partition(": ")
                known[name.strip()] = reason.strip()
    return known


def differences(ours, theirs, at=""):
    """Where two values differ, a line each."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in ours:
                yield f"{at}.{key}: only theirs, {theirs[key]!r}"
            elif key not in theirs:
                yield f"{at}.{key}: only ours, {ours[key]!r}"
            else:
                yield from differences(ours[key], theirs[key], f"{at}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs)):
            yield from differences(*pair, f"{at}[{number}]")
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{at}: {ours!r}, theirs {theirs!r}"


def main():
    with open(sys.argv[1], encoding="utf-8") as ours, open(sys.argv[2], encoding="utf-8") as theirs:
        ours, theirs = json.load(ours), json.load(theirs)
    known = reasons(sys.argv[3])
    passed = failed = told = 0
    for name in list(theirs) + [name for name in ours if name not in theirs]:
        found = list(differences(ours.get(name), theirs.get(name)))
        if not found and name not in known:
            passed += 1
            print(f"ok    {name}")
        elif not found:
            failed += 1
            print(f"FAIL  {name}: it is listed to differ, and does not")
        elif name in known:
            passed += 1
            told += 1
            print(f"ok    {name}, differs: {known[name]}")
        else:
            failed += 1
            print(f"FAIL  {name}:")
            for line in found[:40]:
                print(f"        {line[:400]}")
    for name in known.keys() - theirs.keys() - ours.keys():
        failed += 1
        print(f"FAIL  {name}: it is listed to differ, and is no step")
    print(f"{len(theirs)} steps, {told} of them with a known difference")
    print(f"\n{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


main()
