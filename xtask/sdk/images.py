"""Steps with images: import, list, inspect, tag, history, save, load, remove, prune, and what is refused."""

import io
import json
import tarfile

import docker

from record import refused, shape, step


def tree(files):
    """An archive of directories (None) and files (their bytes)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.mode = 0o755 if content is None or name.startswith("bin/") else 0o644
            entry.size = 0 if content is None else len(content)
            entry.mtime = 1_000_000_000
            tar.addfile(entry, io.BytesIO(content or b""))
        for name in ["sh", "ls", "sleep", "cat", "echo", "true", "false", "env", "id", "pwd", "nc", "kill", "wget", "stty"]:
            if "bin/busybox" in files:
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return out.getvalue()


@step
def image_import(s):
    with open(s.busybox, "rb") as file:
        busybox = file.read()
    base = {"bin": None, "etc": None, "tmp": None, "root": None, "srv": None, "bin/busybox": busybox}
    base["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"
    base["etc/group"] = b"root:x:0:\nuser:x:1000:\n"
    # The same script has to find the command that a shell would run.
    answer = s.low.import_image_from_data(
        tree(base), repository="busy", tag="1", changes=['ENV PATH=/bin', 'CMD ["sh"]', "LABEL made=here"]
    )
    return json.loads(answer.splitlines()[-1])


@step
def image_import_message(s):
    answer = s.low.import_image_from_data(tree({"only": b"x"}), repository="tiny", tag="1")
    return sorted(json.loads(answer.splitlines()[-1]))


@step
def image_get(s):
    image = s.client.images.get("busy:1")
    return [image.tags, image.labels, image.short_id[:7], len(image.id)]


@step
def image_get_by_short_id(s):
    image = s.client.images.get("busy:1")
    return s.client.images.get(image.short_id.removeprefix("sha256:")).tags


@step
def image_inspect_shape(s):
    return shape(s.low.inspect_image("busy:1"))


@step
def image_inspect_config(s):
    found = s.low.inspect_image("busy:1")
    return [found["Config"]["Cmd"], found["Config"]["Env"], found["Config"]["Labels"], found["Os"], found["Architecture"]]


@step
def image_missing(s):
    return refused(s.client.images.get, "nowhere:1")


@step
def image_missing_digest(s):
    return refused(s.client.images.get, "sha256:" + "0" * 64)


@step
def image_bad_name(s):
    return refused(s.low.inspect_image, "UPPER:1")


@step
def image_list(s):
    return sorted(sum((image.tags for image in s.client.images.list()), []))


@step
def image_list_shape(s):
    return shape(s.low.images(name="busy"))


@step
def image_list_by_name(s):
    return [image.tags for image in s.client.images.list(name="busy")]


@step
def image_list_by_label(s):
    return [image.tags for image in s.client.images.list(filters={"label": "made=here"})]


@step
def image_list_by_reference(s):
    return [image.tags for image in s.client.images.list(filters={"reference": "ti*"})]


@step
def image_list_dangling(s):
    return [image.tags for image in s.client.images.list(filters={"dangling": True})]


@step
def image_list_bad_filter(s):
    return refused(s.client.images.list, filters={"colour": "red"})


@step
def image_list_before_since(s):
    before = [image.tags for image in s.client.images.list(filters={"before": "tiny:1"})]
    since = [image.tags for image in s.client.images.list(filters={"since": "busy:1"})]
    return [before, since]


@step
def image_list_quiet(s):
    return s.low.images(name="busy", quiet=True)


@step
def image_tag(s):
    image = s.client.images.get("busy:1")
    given = image.tag("example.com:5000/deep/name", "v2")
    image.reload()
    return [given, sorted(image.tags)]


@step
def image_tag_default(s):
    s.client.images.get("tiny:1").tag("tiny")
    return sorted(s.client.images.get("tiny:1").tags)


@step
def image_tag_bad(s):
    return refused(s.low.tag, "busy:1", "Upper", "x")


@step
def image_tag_missing(s):
    return refused(s.low.tag, "nowhere:1", "some", "x")


@step
def image_history(s):
    found = s.client.images.get("busy:1").history()
    return [[layer["CreatedBy"], layer["Comment"], layer["Tags"] or [], layer["Size"] > 0] for layer in found]


@step
def image_history_shape(s):
    return shape(s.low.history("busy:1"))


@step
def image_history_missing(s):
    return refused(s.low.history, "nowhere:1")


@step
def image_save(s):
    data = b"".join(s.client.images.get("busy:1").save(named="busy:1"))
    s.saved = data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        names = tar.getnames()
    whole = all(layer in names for layer in manifest[0]["Layers"]) and manifest[0]["Config"] in names
    return [len(manifest), manifest[0]["RepoTags"], len(manifest[0]["Layers"]), whole, "oci-layout" in names]


@step
def image_save_missing(s):
    return refused(lambda: b"".join(s.low.get_image("nowhere:1")))


@step
def image_remove_one_name(s):
    before = s.client.images.get("busy:1").id
    s.client.images.remove("example.com:5000/deep/name:v2")
    return [s.client.images.get("busy:1").id == before, s.client.images.get("busy:1").tags]


@step
def image_remove_answer(s):
    first = s.low.delete(s.low._url("/images/{0}", "tiny:latest")).json()
    last = s.low.delete(s.low._url("/images/{0}", "tiny:1")).json()
    return [first, [sorted(one) for one in last]]


@step
def image_remove_missing(s):
    return refused(s.client.images.remove, "tiny:1")


@step
def image_load(s):
    kept = s.client.images.get("busy:1").id
    s.client.images.remove("busy:1")
    gone = refused(s.client.images.get, "busy:1")["error"]
    loaded = s.client.images.load(s.saved)
    return [gone, [image.tags for image in loaded], loaded[0].id == kept]


@step
def image_load_stream(s):
    return [sorted(line) for line in s.low.load_image(s.saved, quiet=True)]


@step
def image_load_damaged(s):
    answer = refused(lambda: list(s.low.load_image(b"this is no archive" * 100)))
    return [answer["error"], answer.get("status")]


@step
def image_pull_unreachable(s):
    answer = refused(s.client.images.pull, "localhost:1/some/thing", tag="1")
    return [answer["error"], answer.get("status")]


@step
def image_pull_bad_name(s):
    return refused(s.client.images.pull, "Upper/thing", tag="1")


@step
def image_push_unreachable(s):
    s.low.tag("busy:1", "localhost:1/some/thing", "1")
    lines = list(s.client.images.push("localhost:1/some/thing", tag="1", stream=True, decode=True))
    s.client.images.remove("localhost:1/some/thing:1")
    return [lines[0], sorted(lines[-1])]


@step
def image_push_missing(s):
    lines = s.client.images.push("localhost:1/other", tag="1", stream=True, decode=True)
    return refused(lambda: list(lines)[-1])


@step
def image_registry_data_unreachable(s):
    answer = refused(s.client.images.get_registry_data, "localhost:1/some/thing:1")
    return [answer["error"], answer.get("status")]


@step
def image_prune_dangling(s):
    s.low.import_image_from_data(tree({"a": b"1"}), repository="moved", tag="1")
    s.low.import_image_from_data(tree({"a": b"2"}), repository="moved", tag="1")
    dangling = len(s.client.images.list(filters={"dangling": True}))
    pruned = s.client.images.prune(filters={"dangling": True})
    left = len(s.client.images.list(filters={"dangling": True}))
    s.client.images.remove("moved:1")
    return [dangling, len([one for one in pruned["ImagesDeleted"] if "Deleted" in one]) > 0, left, sorted(pruned)]


@step
def image_prune_nothing(s):
    return s.client.images.prune()


@step
def image_build(s):
    source = io.BytesIO(b"FROM busy:1\nRUN echo built >/tmp/file\nLABEL built=yes\n")
    image, _ = s.client.images.build(fileobj=source, tag="built:1", rm=True)
    labels = image.labels
    s.client.images.remove("built:1")
    return labels


@step
def image_prune_builds(s):
    return sorted(s.client.images.prune_builds())


@step
def image_collection_raises_image_not_found(s):
    try:
        s.client.images.get("missing:1")
    except docker.errors.ImageNotFound as problem:
        return [problem.is_client_error(), problem.is_server_error(), problem.response.headers.get("Content-Type")]
    return "found"
