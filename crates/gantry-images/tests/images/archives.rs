//! Saving, loading, importing and exporting.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use gantry_images::{Format, ImportOptions, LoadOptions, PullOptions, SaveOptions, silent};
use gantry_model::image::{Compression, media};
use gantry_model::reference::Reference;
use gantry_tar::{Entry, Kind, Reader, Writer};

use crate::kit::{Place, compressed, content, described, image, name, publish, sha256, simple, tar};

/// Something to write to that can be read afterwards.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Vec<u8>>>);

impl Write for Shelf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shelf {
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = Reader::new(archive);
    let mut entry = Entry::default();
    let mut files = Vec::new();
    while reader.read_entry(&mut entry).unwrap() {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).unwrap();
        files.push((String::from_utf8(entry.path.clone()).unwrap(), data));
    }
    files
}

fn load(archive: Vec<u8>) -> io::Cursor<Vec<u8>> {
    io::Cursor::new(archive)
}

const PULL: PullOptions = PullOptions { platform: None, all_platforms: false };
const LOAD: LoadOptions = LoadOptions { platform: None };

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_loaded() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let layer = |seed: u64, how| (tar(&[("f", &content(seed, 200_000))]), how);
    let one = image(&[layer(1, Compression::Gzip), layer(2, Compression::Zstd)], false, |_| {});
    let two = image(&[layer(1, Compression::Gzip)], true, |_| {});
    let (first, second) = (name(registry.address(), "a:1"), name(registry.address(), "b:2"));
    publish(&first, &one).await;
    publish(&second, &two).await;
    images.pull(&first, PULL, silent()).await.unwrap();
    images.pull(&second, PULL, silent()).await.unwrap();
    let names = [first.to_string(), second.to_string()];
    for format in [Format::DockerArchive, Format::OciArchive] {
        let options = SaveOptions { format, platform: None };
        let shelf = Shelf::default();
        images.save(&names, shelf.clone(), options.clone()).await.unwrap();
        let archive = shelf.take();
        images.save(&names, shelf.clone(), options).await.unwrap();
        assert!(archive == shelf.take(), "the same images give the same archive");
        for how in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let other = place.images(&format!("{format:?}{how:?}"));
            let loaded = other.load(load(compressed(how, &archive)), LOAD, silent()).await.unwrap();
            let loaded: Vec<_> = loaded.into_iter().map(|one| (one.id, one.names)).collect();
            assert_eq!(loaded, [(one.id(), vec![first.clone()]), (two.id(), vec![second.clone()])]);
            let digest = other.store().image(&first).unwrap().unwrap().digest;
            assert_eq!(digest == one.target.digest, format == Format::OciArchive, "{format:?}");
            assert_eq!(other.store().layers().unwrap().len(), 2);
            // And once more from there.
            let shelf = Shelf::default();
            other.save(&names, shelf.clone(), SaveOptions { format, platform: None }).await.unwrap();
            assert!(shelf.take() == archive, "{format:?} {how:?}");
        }
    }
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_archive_is_what_others_read() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let layers = [tar(&[("a", b"1")]), tar(&[("b", b"2")])];
    let made = image(&layers.clone().map(|layer| (layer, Compression::Gzip)), false, |_| {});
    let from = name(registry.address(), "a:1");
    publish(&from, &made).await;
    images.pull(&from, PULL, silent()).await.unwrap();
    let shelf = Shelf::default();
    // By the beginning of its id it has no name.
    let short = made.id().short().to_owned();
    images.save(&[from.to_string(), short], shelf.clone(), SaveOptions::default()).await.unwrap();
    let files = files(&shelf.take());
    let file = |name: &str| files.iter().find(|one| one.0 == name).unwrap_or_else(|| panic!("{name}")).1.as_slice();
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(file(name)).unwrap();
    let manifest = json("manifest.json");
    assert_eq!(manifest.as_array().unwrap().len(), 1);
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!([from.familiar()]));
    assert_eq!(file(manifest[0]["Config"].as_str().unwrap()), made.config);
    for (index, layer) in layers.iter().enumerate() {
        assert!(file(manifest[0]["Layers"][index].as_str().unwrap()) == *layer);
    }
    assert_eq!(json("repositories")[format!("{}/a", registry.address())]["1"], sha256(&layers[1]).hex());
    assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let entry = &json("index.json")["manifests"][0];
    assert_eq!(entry["annotations"]["io.containerd.image.name"], from.to_string());
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1");
    let digest = entry["digest"].as_str().unwrap().replace(':', "/");
    assert_eq!(json(&format!("blobs/{digest}"))["layers"][0]["mediaType"], media::OCI_LAYER);
    registry.stop().await;
}

/// An entry of an archive: its name, its kind, and its data or target.
type File<'a> = (&'a str, Kind, &'a [u8]);

/// An archive with links, whose entries are in the order given.
fn archive(entries: &[(&str, Kind, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, kind, data) in entries {
        let mut entry = Entry { path: name.as_bytes().to_vec(), kind: *kind, mode: 0o644, ..Entry::default() };
        if *kind == Kind::File {
            entry.size = data.len() as u64;
            writer.append(&entry, data).unwrap();
        } else {
            entry.link = data.to_vec();
            writer.append(&entry, b"").unwrap();
        }
    }
    writer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_every_age() {
    let place = Place::new();
    let layer = tar(&[("f", b"x")]);
    let gzip = compressed(Compression::Gzip, &layer);
    let made = image(&[(layer.clone(), Compression::None), (layer.clone(), Compression::None)], false, |_| {});
    let manifest = |config: &str, layers: [&str; 2]| {
        serde_json::to_vec(&serde_json::json!([{"Config": config, "RepoTags": ["old:1", "old"], "Layers": layers}]))
            .unwrap()
    };
    let old = manifest("c.json", ["a/layer.tar", "b/layer.tar"]);
    let plain = manifest("sha256:c", ["x.tar.gz", "x.tar.gz"]);
    let file = Kind::File;
    let cases: [Vec<(&str, Kind, &[u8])>; 4] = [
        vec![
            ("manifest.json", file, &old),
            ("c.json", file, &made.config),
            ("a/layer.tar", file, &layer),
            ("b/layer.tar", Kind::Symlink, b"../a/layer.tar"),
        ],
        vec![
            ("./b/layer.tar", Kind::Link, b"./a/layer.tar"),
            ("./a/layer.tar", file, &layer),
            ("./c.json", file, &made.config),
            ("./manifest.json", file, &old),
        ],
        vec![
            ("a/VERSION", file, b"1.0"),
            ("a/json", file, b"{}"),
            ("a/layer.tar", file, &gzip),
            ("b/layer.tar", file, &layer),
            ("c.json", file, &made.config),
            ("manifest.json", file, &old),
            ("repositories", file, b"{}"),
        ],
        vec![("sha256:c", file, &made.config), ("x.tar.gz", file, &gzip), ("manifest.json", file, &plain)],
    ];
    for (index, case) in cases.iter().enumerate() {
        let images = place.images(&index.to_string());
        let loaded = images.load(load(archive(case)), LOAD, silent()).await.unwrap();
        assert_eq!(loaded[0].id, made.id(), "case {index}");
        let tags: Vec<String> = loaded[0].names.iter().map(Reference::familiar).collect();
        assert_eq!(tags, ["old:1", "old:latest"]);
        assert_eq!(images.inspect("old", None).await.unwrap().id, made.id());
        assert_eq!(images.store().layers().unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives_are_refused() {
    let place = Place::new();
    let images = place.images("store");
    let made = image(&[(tar(&[("f", b"x")]), Compression::None)], false, |_| {});
    let manifest = |config: &str, layers: &[&str]| {
        serde_json::to_vec(&serde_json::json!([{"Config": config, "RepoTags": ["x"], "Layers": layers}])).unwrap()
    };
    let (file, hex) = (Kind::File, "a".repeat(64));
    let layer = made.blobs[0].as_slice();
    let (good, up) = (manifest("c", &["l"]), manifest("c", &["../l"]));
    let two = manifest("c", &["l", "l"]);
    let blob = format!("blobs/sha256/{hex}");
    let index = serde_json::to_vec(
        &serde_json::json!({"schemaVersion": 2, "manifests": [described(media::OCI_MANIFEST, b"y")]}),
    )
    .unwrap();
    let many: Vec<u8> = b"[".iter().copied().chain(b"{},".repeat(5000)).chain(*b"{}]").collect();
    let cases: Vec<(Vec<File<'_>>, &str)> = vec![
        (vec![], "neither index.json nor manifest.json"),
        (vec![("../x", file, b"")], "leads out"),
        (vec![("/x", file, b"")], "leads out"),
        (vec![("a", Kind::Symlink, b"/etc/passwd")], "leads out"),
        (vec![("a/b", Kind::Symlink, b"../../x")], "leads out"),
        (vec![("a", Kind::Fifo, b"")], "devices and pipes"),
        (vec![(&blob, file, b"x")], "has the digest"),
        (vec![("manifest.json", file, b"{")], "manifest.json"),
        (vec![("manifest.json", file, &many)], "more than 4096"),
        (vec![("c", file, &made.config), ("manifest.json", file, &good)], "does not have"),
        (vec![("c", file, &made.config), ("l", file, layer), ("manifest.json", file, &up)], "does not have"),
        (vec![("c", file, &made.config), ("l", file, layer), ("manifest.json", file, &two)], "2 layers"),
        (vec![("c", file, b"{}"), ("l", file, layer), ("manifest.json", file, &good)], "c: "),
        (vec![("c", file, &made.config), ("l", file, b"no tar"), ("manifest.json", file, &good)], "tar archive"),
        (
            vec![
                ("c", file, &made.config),
                ("l", Kind::Link, b"m"),
                ("m", Kind::Link, b"l"),
                ("manifest.json", file, &good),
            ],
            "does not have",
        ),
        (vec![("oci-layout", file, b"{}"), ("index.json", file, &index)], "does not have it"),
        (vec![("oci-layout", file, b"{}"), ("index.json", file, b"[]")], "index.json"),
    ];
    for (entries, why) in cases {
        let error = images.load(load(archive(&entries)), LOAD, silent()).await.unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    let cut = archive(&[("c", file, &made.config), ("l", file, layer), ("manifest.json", file, &good)]);
    for length in [0, 100, 600, 2000] {
        assert!(images.load(load(cut[..length].to_vec()), LOAD, silent()).await.is_err(), "{length}");
    }
    assert!(images.store().images().unwrap().is_empty());
    assert!(images.store().layers().unwrap().is_empty());
    assert_eq!(place.entries("store/leases"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_in_directories() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let made = simple(&[1, 2]);
    let from = name(registry.address(), "a:1");
    publish(&from, &made).await;
    images.pull(&from, PULL, silent()).await.unwrap();
    let directory = place.0.join("layout");
    let options = SaveOptions { format: Format::OciArchive, platform: None };
    images.save_layout(&[from.to_string()], &directory, options).await.unwrap();
    let other = place.images("other");
    let loaded = other.load_layout(&directory, LOAD, silent()).await.unwrap();
    assert_eq!((&loaded[0].id, &loaded[0].names[..]), (&made.id(), &[from.clone()][..]));
    assert_eq!(other.store().image(&from).unwrap().unwrap().digest, made.target.digest);
    // The store itself is a layout.
    let third = place.images("third");
    let loaded = third.load_layout(images.store().layout(), LOAD, silent()).await.unwrap();
    assert_eq!(loaded[0].id, made.id());
    // A link in a layout is not followed.
    let blob = directory.join("blobs/sha256").join(made.target.digest.hex());
    std::fs::rename(&blob, place.0.join("moved")).unwrap();
    std::os::unix::fs::symlink(place.0.join("moved"), &blob).unwrap();
    let fourth = place.images("fourth");
    assert!(fourth.load_layout(&directory, LOAD, silent()).await.is_err());
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_and_exports() {
    let place = Place::new();
    let images = place.images("store");
    let root = tar(&[("etc/", b""), ("etc/name", b"gantry"), ("big", &content(3, 700_000))]);
    for how in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let options = ImportOptions {
            name: Some("made:1".parse().unwrap()),
            changes: vec!["CMD [\"sh\"]".into(), "ENV A=1".into()],
            message: Some("a message".into()),
            platform: Some("linux/arm64".parse().unwrap()),
        };
        let id = images.import(load(compressed(how, &root)), options).await.unwrap();
        let inspect = images.inspect("made:1", None).await.unwrap();
        assert_eq!((&inspect.id, inspect.comment.as_str(), inspect.architecture.as_str()), (&id, "a message", "arm64"));
        assert_eq!(inspect.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(inspect.root_fs.layers, [sha256(&root)]);
        let history = images.history("made:1", None).await.unwrap();
        assert_eq!((history.len(), history[0].comment.as_str()), (1, "a message"));
    }
    let shelf = Shelf::default();
    let (digest, size) = images.export_image("made:1", None, shelf.clone()).await.unwrap();
    let exported = shelf.take();
    assert_eq!((digest.clone(), size), (sha256(&exported), exported.len() as u64));
    // Once more it is the same to the byte, whenever it is done.
    let again = images.export_image("made:1", None, shelf.clone()).await.unwrap();
    assert_eq!((again, shelf.take() == exported), ((digest, size), true));
    let mut names: Vec<(String, usize)> = files(&exported).into_iter().map(|(name, data)| (name, data.len())).collect();
    names.retain(|(name, _)| name != "./");
    names.sort();
    assert_eq!(names, [("big".to_owned(), 700_000), ("etc/".to_owned(), 0), ("etc/name".to_owned(), 6)]);
    assert_eq!(images.store().snapshots().unwrap().len(), 0);
    let bad = ImportOptions { changes: vec!["RUN x".into()], ..ImportOptions::default() };
    assert!(images.import(load(root), bad).await.is_err());
    assert!(images.import(load(b"no archive at all".repeat(50)), ImportOptions::default()).await.is_err());
}
