"""Compiles profiles with libseccomp, and loads filters into the kernel, for the tests beside this file.

Each line of input is a JSON object, each answered by one line of JSON.
{"profile": OCI seccomp object, "native": "x86_64", "optimize": bool}
    -> {"program": hex} or {"error": errno}; a name that libseccomp does not know is left out
{"names": [...], "architecture": "x86"} -> {name: number}: negative where there is none
{"load": hex, "calls": [[number, argument...]]} -> {"results": [errno of each call]}, made in a child under the filter
{"version": true} -> {"version": "2.5.4"}
"""

import ctypes
import json
import os
import sys
import threading

LIB = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else "libseccomp.so.2")
LIBC = ctypes.CDLL(None, use_errno=True)
POINTER, U32, U64, INT = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", INT), ("a", U64), ("b", U64)]


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


LIB.seccomp_version.restype = ctypes.POINTER(Version)
LIB.seccomp_init.restype = POINTER
LIB.seccomp_init.argtypes = [U32]
LIB.seccomp_arch_add.argtypes = LIB.seccomp_arch_remove.argtypes = [POINTER, U32]
LIB.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
LIB.seccomp_arch_resolve_name.restype = U32
LIB.seccomp_arch_native.restype = U32
LIB.seccomp_attr_set.argtypes = [POINTER, INT, U32]
LIB.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
LIB.seccomp_syscall_resolve_name_arch.argtypes = [U32, ctypes.c_char_p]
LIB.seccomp_rule_add_array.argtypes = [POINTER, U32, INT, ctypes.c_uint, POINTER]
LIB.seccomp_export_bpf.argtypes = [POINTER, INT]
LIB.seccomp_release.argtypes = [POINTER]

OPTIMIZE = 8
ACTIONS = {
    "KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000, "ERRNO": 0x50000,
    "NOTIFY": 0x7FC00000, "TRACE": 0x7FF00000, "LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000,
}
OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}


def action(name, errno):
    name = name.removeprefix("SCMP_ACT_")
    number = (1 if errno is None else errno) if name in ("ERRNO", "TRACE") else 0
    return ACTIONS[name] | number


def architecture(name):
    return LIB.seccomp_arch_resolve_name(name.lower().encode())


def resolve(name):
    return LIB.seccomp_syscall_resolve_name(name.encode())


def rules(profile, default):
    """Every rule as (action, number, conditions), those left out that runtimes leave out."""
    for rule in profile.get("syscalls", []):
        value = action(rule["action"], rule.get("errnoRet"))
        if value == default:
            continue
        conditions = [
            Compare(c["index"], OPERATORS[c["op"].removeprefix("SCMP_CMP_")], c["value"], c.get("valueTwo", 0))
            for c in rule.get("args") or []
        ]
        repeated = len({c.arg for c in conditions}) < len(conditions)
        for name in rule["names"]:
            if resolve(name) != -1:
                for group in [[c] for c in conditions] if repeated else [conditions]:
                    yield value, resolve(name), group


def fill(context, request, default):
    profile = request["profile"]
    native = architecture(request["native"])
    wanted = [native] + [architecture(a.removeprefix("SCMP_ARCH_")) for a in profile.get("architectures", [])]
    for token in wanted:
        LIB.seccomp_arch_add(context, token)
    if LIB.seccomp_arch_native() not in wanted:
        LIB.seccomp_arch_remove(context, LIB.seccomp_arch_native())
    if request.get("optimize"):
        LIB.seccomp_attr_set(context, OPTIMIZE, 2)
    for value, number, conditions in rules(profile, default):
        array = (Compare * max(1, len(conditions)))(*conditions)
        code = LIB.seccomp_rule_add_array(context, value, number, len(conditions), array)
        if code < 0:
            return code
    return 0


def compile_profile(request):
    default = action(request["profile"]["defaultAction"], request["profile"].get("defaultErrnoRet"))
    context = LIB.seccomp_init(default)
    try:
        code = fill(context, request, default)
        if code < 0:
            return {"error": -code}
        reader, writer = os.pipe()
        read = []
        thread = threading.Thread(target=lambda: read.append(os.fdopen(reader, "rb").read()))
        thread.start()
        code = LIB.seccomp_export_bpf(context, writer)
        os.close(writer)
        thread.join()
        return {"error": -code} if code < 0 else {"program": read[0].hex()}
    finally:
        LIB.seccomp_release(context)


def load(request):
    code = bytes.fromhex(request["load"])
    program = Program(len(code) // 8, code)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        LIBC.prctl(38, 1, 0, 0, 0)  # no new privileges
        results = []
        if LIBC.prctl(22, 2, ctypes.byref(program)) != 0:  # the filter
            results = [-ctypes.get_errno()]
        else:
            for call in request["calls"]:
                ctypes.set_errno(0)
                failed = LIBC.syscall(*[ctypes.c_long(word) for word in call]) == -1
                results.append(ctypes.get_errno() if failed else 0)
        os.write(writer, json.dumps(results).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"results": json.loads(text)} if text else {"error": status}


def answer(request):
    if "version" in request:
        version = LIB.seccomp_version().contents
        return {"version": f"{version.major}.{version.minor}.{version.micro}"}
    if "names" in request:
        token = architecture(request["architecture"])
        return {name: LIB.seccomp_syscall_resolve_name_arch(token, name.encode()) for name in request["names"]}
    return load(request) if "load" in request else compile_profile(request)


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
