"""Images in an OCI layout, made without a tool of images: make-image.py LAYOUT NAME WHAT...

WHAT is tar archives, one a layer; or `--many N`: N small layers; or `--platforms TAR OS/ARCHITECTURE[/VARIANT]...`: an
index with an image for each. Layers are compressed with gzip. The same input gives the same bytes.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile

TYPE = "application/vnd.oci.image."


class Layout:
    def __init__(self, path):
        self.path = path
        os.makedirs(f"{path}/blobs/sha256", exist_ok=True)
        with open(f"{path}/oci-layout", "w") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, kind, content):
        digest = hashlib.sha256(content).hexdigest()
        with open(f"{self.path}/blobs/sha256/{digest}", "wb") as file:
            file.write(content)
        return {"mediaType": TYPE + kind, "digest": f"sha256:{digest}", "size": len(content)}

    def document(self, kind, document):
        return self.blob(kind, json.dumps(document).encode())

    def image(self, tars, platform):
        layers = [self.blob("layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0)) for tar in tars]
        config = {
            **platform,
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
            "history": [{"created_by": f"layer {number}"} for number in range(len(tars))],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": TYPE + "manifest.v1+json",
            "config": self.document("config.v1+json", config),
            "layers": layers,
        }
        return self.document("manifest.v1+json", manifest)

    def name(self, descriptor, name):
        index = {"schemaVersion": 2, "manifests": []}
        if os.path.exists(f"{self.path}/index.json"):
            with open(f"{self.path}/index.json") as file:
                index = json.load(file)
        index["manifests"].append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}})
        with open(f"{self.path}/index.json", "w") as file:
            json.dump(index, file)


def small_layer(number):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in [f"layers/{number}", "top"]:
            info = tarfile.TarInfo(path)
            info.size = len(str(number))
            tar.addfile(info, io.BytesIO(str(number).encode()))
    return buffer.getvalue()


def platform(text):
    parts = dict(zip(("os", "architecture", "variant"), text.split("/")))
    return {key: parts[key] for key in ("architecture", "os", "variant") if key in parts}


def read(path):
    with open(path, "rb") as file:
        return file.read()


def main(path, name, *what):
    layout = Layout(path)
    host = platform("linux/amd64")
    if what[0] == "--many":
        descriptor = layout.image([small_layer(number) for number in range(int(what[1]))], host)
    elif what[0] == "--platforms":
        images = [{**layout.image([read(what[1])], one), "platform": one} for one in map(platform, what[2:])]
        index = {"schemaVersion": 2, "mediaType": TYPE + "index.v1+json", "manifests": images}
        descriptor = layout.document("index.v1+json", index)
    else:
        descriptor = layout.image([read(tar) for tar in what], host)
    layout.name(descriptor, name)


main(*sys.argv[1:])
