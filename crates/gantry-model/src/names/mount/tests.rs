//! Options of mounts, as data.

use super::*;

fn parse(options: &[&str]) -> Result<MountOptions, NameError> {
    MountOptions::parse(&options.iter().map(|&o| o.to_owned()).collect::<Vec<_>>())
}

/// Checks the attributes of the mount and of those below.
fn check(options: &[&str], plain: (u64, u64), recursive: (u64, u64)) {
    let parsed = parse(options).unwrap();
    let change = |(set, clear)| AttrChange { set, clear };
    assert_eq!((parsed.attributes(), parsed.recursive), (change(plain), change(recursive)), "{options:?}");
}

#[test]
fn plain_attributes() {
    let plain = |options: &[&str], set, clear| check(options, (set, clear), (0, 0));
    plain(&[], 0, 0);
    plain(&["defaults"], 0, 0);
    plain(&["ro"], 1, 0);
    plain(&["rw"], 0, 1);
    plain(&["ro", "rw"], 0, 1);
    plain(&["rw", "ro"], 1, 0);
    plain(&["nosuid", "nodev", "noexec"], 0xe, 0);
    plain(&["suid", "dev", "exec"], 0, 0xe);
    plain(&["nodiratime"], 0x80, 0);
    plain(&["diratime"], 0, 0x80);
    plain(&["nosymfollow"], 0x20_0000, 0);
    plain(&["symfollow"], 0, 0x20_0000);
    plain(&["noatime"], 0x10, 0x70);
    plain(&["atime"], 0, 0x70);
    plain(&["noatime", "atime"], 0, 0x70);
    plain(&["relatime"], 0, 0x70);
    plain(&["norelatime"], 0, 0);
    plain(&["relatime", "norelatime"], 0, 0);
    plain(&["strictatime"], 0x20, 0x70);
    plain(&["nostrictatime"], 0, 0x70);
    // The weight that mount(2) gives them, whatever their order.
    plain(&["noatime", "strictatime"], 0x20, 0x70);
    plain(&["strictatime", "noatime"], 0x20, 0x70);
    plain(&["relatime", "noatime"], 0x10, 0x70);
    plain(&["strictatime", "nostrictatime", "noatime"], 0x10, 0x70);
}

#[test]
fn recursive_attributes() {
    let recursive = |options: &[&str], set, clear| check(options, (0, 0), (set, clear));
    recursive(&["rro"], 1, 0);
    recursive(&["rrw"], 0, 1);
    recursive(&["rro", "rrw"], 0, 1);
    recursive(&["rnosuid", "rnodev", "rnoexec", "rnodiratime", "rnosymfollow"], 0x20_008e, 0);
    recursive(&["rsuid", "rdev", "rexec", "rdiratime", "rsymfollow"], 0, 0x20_008e);
    recursive(&["rnoatime"], 0x10, 0x70);
    recursive(&["ratime"], 0, 0x70);
    recursive(&["rstrictatime"], 0x20, 0x70);
    recursive(&["rnostrictatime"], 0, 0x70);
    recursive(&["rrelatime"], 0, 0x70);
    recursive(&["rnorelatime"], 0, 0x70);
    recursive(&["rnoatime", "rstrictatime"], 0x20, 0x70);
    recursive(&["rro", "rnoatime", "rrelatime"], 1, 0x70);
    check(&["ro", "rrw"], (1, 0), (0, 1));
}

#[test]
fn binds_and_propagation() {
    let check = |options: &[&str], flags: u64, propagation: &[u64]| {
        let parsed = parse(options).unwrap();
        let changes: Vec<u64> = parsed.propagation.iter().map(|p| p.ms_flags()).collect();
        assert_eq!((parsed.mount_flags(), changes.as_slice()), (flags, propagation), "{options:?}");
    };
    check(&["bind"], 0x1000, &[]);
    check(&["rbind"], 0x5000, &[]);
    check(&["rbind", "bind", "ro"], 0x5001, &[]);
    check(&["remount", "rw"], 0x20, &[]);
    check(&["rbind", "rprivate"], 0x5000, &[0x4_4000]);
    check(&["shared", "slave", "private", "unbindable"], 0, &[1 << 20, 1 << 19, 1 << 18, 1 << 17]);
    check(
        &["rshared", "rslave", "rprivate", "runbindable"],
        0,
        &[1 << 20 | 0x4000, 1 << 19 | 0x4000, 1 << 18 | 0x4000, 1 << 17 | 0x4000],
    );
    check(&["sync", "dirsync", "mand", "silent", "iversion", "lazytime"], 0x0280_80d0, &[]);
    check(&["sync", "async", "lazytime", "nolazytime", "loud", "noiversion", "nomand"], 0, &[]);

    let check = |name: &str, expect: Option<(u64, bool)>| {
        let got = Propagation::from_name(name).ok();
        assert_eq!(got, expect.map(|(kind, recursive)| Propagation { kind, recursive }), "{name:?}");
    };
    check("shared", Some((1 << 20, false)));
    check("rslave", Some((1 << 19, true)));
    check("runbindable", Some((1 << 17, true)));
    for name in ["", "ro", "bind", "SHARED", "shared ", "shared\0"] {
        check(name, None);
    }
}

#[test]
fn file_system_flags() {
    let check = |options: &[&str], expect: &[&str]| assert_eq!(parse(options).unwrap().fsconfig_flags(), expect);
    check(&[], &[]);
    check(&["ro", "nosuid", "silent", "iversion"], &[]);
    check(&["sync", "dirsync", "mand", "lazytime"], &["sync", "dirsync", "mand", "lazytime"]);
    check(&["async", "nomand", "nolazytime", "loud"], &["async", "nomand", "nolazytime"]);
    check(&["rsync", "rdirsync", "rmand"], &["sync", "dirsync", "mand"]);
    check(&["sync", "rasync", "mand", "rnomand"], &["async", "nomand"]);
}

#[test]
fn data() {
    let check = |kind: &str, options: &[&str], expect: &[(&str, Option<&str>)]| {
        let parsed = parse(options).unwrap();
        let got = parsed.data_options(kind);
        let got: Vec<_> = got.iter().map(|o| (o.key.as_str(), o.value.as_deref())).collect();
        assert_eq!(got, expect, "{options:?}");
    };
    check("tmpfs", &["nosuid", "size=64k", "mode=755"], &[("size", Some("64k")), ("mode", Some("755"))]);
    check("tmpfs", &["size=64k,mode=755"], &[("size", Some("64k")), ("mode", Some("755"))]);
    check("devpts", &["newinstance", "gid=5"], &[("newinstance", None), ("gid", Some("5"))]);
    check("tmpfs", &["", ",", "=x", "a=", "a=b=c"], &[("a", Some("")), ("a", Some("b=c"))]);
    check("cgroup", &["xattr,name=systemd"], &[("xattr", None), ("name", Some("systemd"))]);
    check("tmpfs", &["context=\"u:r:t:s0:c1,c2\",size=1"], &[("context", Some("u:r:t:s0:c1,c2")), ("size", Some("1"))]);
    check("tmpfs", &["context=\"u,size=1"], &[("context", Some("u,size=1"))]);
    check("tmpfs", &["x=\"a,b\""], &[("x", Some("\"a")), ("b\"", None)]);
    check("overlay", &["lowerdir=/a\\,b:/c,index=off"], &[("lowerdir", Some("/a\\,b:/c")), ("index", Some("off"))]);
    check("tmpfs", &["x=a\\,b"], &[("x", Some("a\\")), ("b", None)]);
    check("overlay", &["x=\\"], &[("x", Some("\\"))]);
    check("tmpfs", &["é=é,ö"], &[("é", Some("é")), ("ö", None)]);

    let text = parse(&["ro", "size=64k", "mode=755"]).unwrap().data_text();
    assert_eq!(text, "size=64k,mode=755");
    let long = format!("lowerdir={}", "/x".repeat(128));
    assert!(parse(&["size=1"]).unwrap().fits_fsconfig("tmpfs"));
    assert!(!parse(&[&long]).unwrap().fits_fsconfig("overlay"));
    assert!(!parse(&[&"k".repeat(256)]).unwrap().fits_fsconfig("tmpfs"));
}

#[test]
fn extensions() {
    let all = parse(&["bind", "tmpcopyup", "src-nofollow", "dest-nofollow"]).unwrap();
    assert!(all.tmpcopyup && all.src_nofollow && all.dest_nofollow && !all.copy_symlink);
    assert!(parse(&["bind", "copy-symlink"]).unwrap().copy_symlink);
    assert!(parse(&["bind", "copy-symlink", "src-nofollow"]).is_err());
    assert!(parse(&["dest-nofollow", "bind", "copy-symlink"]).is_err());
}

#[test]
fn idmaps() {
    type Ranges<'a> = &'a [(u32, u32, u32, bool)];
    let check = |option: &str, expect: Option<(bool, Ranges<'_>, Ranges<'_>)>| {
        let tuples =
            |ranges: &[OptionRange]| -> Vec<_> { ranges.iter().map(|r| (r.from, r.to, r.size, r.relative)).collect() };
        let got = parse(&["bind", option]).ok().and_then(|p| p.idmap);
        let got = got.map(|i| (i.recursive, tuples(&i.uids), tuples(&i.gids)));
        assert_eq!(got, expect.map(|(r, u, g)| (r, u.to_vec(), g.to_vec())), "{option:?}");
    };
    check("idmap", Some((false, &[], &[])));
    check("ridmap", Some((true, &[], &[])));
    check(
        "idmap=uids=0-1-10#10-11-10;gids=0-100-10",
        Some((false, &[(0, 1, 10, false), (10, 11, 10, false)], &[(0, 100, 10, false)])),
    );
    check("ridmap=gids=@0-0-1;uids=@1-2-3", Some((true, &[(1, 2, 3, true)], &[(0, 0, 1, true)])));
    let many = format!("idmap=gids=0-0-1;uids={}", "0-0-1#".repeat(341));
    for bad in [
        "idmap=",
        "idmap=uids=0-0-1",
        "idmap=uids=;gids=",
        "idmap=uids=0-0-1;gids=0-0",
        "idmap=uids=0-0-1;gids=0-0-1-1",
        "idmap=uids=0-0-1;gids=0-0-4294967296",
        "idmap=uids=0-0-1;gids=@@0-0-1",
        "idmap=uids=0-0-1;gids=a-b-c",
        "idmap=uids=0-0-1;gids=0--1-1",
        "idmap=uids=0-0-1;gids=0-0-1;x=1",
        "idmapped",
        &many,
    ] {
        assert!(parse(&["bind", bad]).is_err(), "{bad}");
    }
}

#[test]
fn hostile() {
    assert_eq!(parse(&["bind", "mode=755"]).unwrap().data, ["mode=755"]);
    assert!(parse(&["rbind", "acl"]).is_err());
    assert!(parse(&["bind", ""]).is_ok());
    assert!(parse(&["ro\0"]).is_err());
    assert!(parse(&["x=\0"]).is_err());
    assert!(parse(&vec!["ro"; 4097]).is_err());
    let long = "x".repeat(1 << 20);
    assert_eq!(parse(&[&long]).unwrap().data_options("tmpfs").len(), 1);
    let commas = ",".repeat(1 << 20);
    assert_eq!(parse(&[&commas]).unwrap().data_options("tmpfs").len(), 0);
    for word in ["RO", "ro ", " ro", "rslave2", "-", "=", "nosuid,nodev"] {
        assert_eq!(parse(&[word]).unwrap().data, [word], "{word:?}");
    }
}

#[test]
fn known() {
    let known = known_options();
    assert!(known.is_sorted_by(|a, b| a < b), "sorted, and none twice");
    assert!(table::OPTIONS.is_sorted_by(|a, b| a.0 < b.0), "the table is searched by halves");
    for name in known {
        let parsed = parse(&[name]).unwrap();
        assert_eq!(parsed.data, [""; 0], "{name}");
    }
}
