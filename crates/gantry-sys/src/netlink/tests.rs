//! Moves of devices between network namespaces of the tests' own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use super::*;

/// Says that a test did not run, past the capture that would keep it from being seen.
fn skipped(test: &str, why: impl fmt::Display) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("\nSKIPPED {test}: {why}\n").as_bytes());
}

/// Runs a test in a network namespace of its own, by a thread that ends with it; a namespace goes with its last user,
/// and takes its devices along, however the test ends.
fn isolated(name: &str, test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| match ns::unshare(libc::CLONE_NEWNET) {
            Ok(()) => test(),
            Err(error) => skipped(name, format!("no network namespace can be made here: {error}")),
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn own_namespace() -> OwnedFd {
    std::fs::File::open("/proc/thread-self/ns/net").unwrap().into()
}

/// A second network namespace, kept by its descriptor alone.
fn other_namespace() -> OwnedFd {
    std::thread::scope(|scope| {
        let make = || ns::unshare(libc::CLONE_NEWNET).map(|()| own_namespace());
        scope.spawn(make).join().unwrap().unwrap()
    })
}

/// Makes a pair of connected devices.
fn make_pair(socket: &mut Socket, name: &str) -> Link {
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let kind = [&8_u16.to_ne_bytes()[..], &IFLA_INFO_KIND.to_ne_bytes(), b"veth"].concat();
    let request = Request::new(RTM_NEWLINK, &link_header(0, 0, 0))
        .flags(0x600)
        .attribute(IFLA_IFNAME, &with_nul(name))
        .attribute(IFLA_LINKINFO, &kind);
    socket.ask(request, |_, _| ()).unwrap();
    socket.link(name).unwrap()
}

/// What iproute2 says, by the same thread and so in the same namespace; `None` without it.
fn iproute(arguments: &[&str]) -> Option<String> {
    match Command::new("ip").args(arguments).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            skipped("comparison with iproute2", format!("it does not run here: {error}"));
            None
        }
    }
}

fn in_namespace<T: Send>(namespace: BorrowedFd<'_>, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            ns::setns(namespace, libc::CLONE_NEWNET).unwrap();
            f()
        };
        scope.spawn(run).join().unwrap()
    })
}

fn address(text: &str, prefix: u8) -> Address {
    let local: IpAddr = text.parse().unwrap();
    Address { local, peer: local, prefix, flags: 0, scope: 0, broadcast: None, metric: None }
}

#[test]
fn loopback() {
    isolated("loopback", || {
        let mut socket = Socket::new().unwrap();
        assert!(!socket.link("lo").unwrap().is_up());
        loopback_up().unwrap();
        let lo = socket.link("lo").unwrap();
        assert!(lo.is_up());
        assert_eq!((lo.index, lo.mtu, lo.address.as_slice()), (1, 65_536, &[0; 6][..]));
        let addresses: Vec<IpAddr> = socket.addresses(&lo).unwrap().iter().map(|a| a.local).collect();
        assert!(addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{addresses:?}");
        assert_eq!(socket.find("none").unwrap(), None);
        let error = socket.link("none").unwrap_err();
        assert_eq!(error.to_string(), "find network device none: no such device");
    });
}

#[test]
fn moves_with_all_that_belongs_to_it() {
    isolated("moves_with_all_that_belongs_to_it", || {
        let mut socket = Socket::new().unwrap();
        let link = make_pair(&mut socket, "gm0");
        let mtu = Request::new(RTM_NEWLINK, &link_header(link.index, 0, 0))
            .attribute(IFLA_MTU, &1789_u32.to_ne_bytes())
            .attribute(IFLA_ADDRESS, &[2, 0x11, 0x22, 0x33, 0x44, 0x55]);
        socket.ask(mtu, |_, _| ()).unwrap();
        let broadcast = Some(IpAddr::V4(Ipv4Addr::new(10, 9, 8, 255)));
        let peer = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 2));
        let v6 = Address { flags: 0x02, ..address("fd00:9::7", 64) };
        let moving = [
            Address { broadcast, ..address("10.9.8.7", 24) },
            address("10.9.8.6", 24),
            Address { peer, metric: Some(77), ..address("10.1.1.1", 32) },
            v6,
        ];
        for address in &moving {
            socket.add_address(&link, address).unwrap();
        }
        socket.add_address(&link, &Address { scope: 253, ..address("169.254.1.1", 16) }).unwrap();
        socket.set_up(&link).unwrap();

        let target = other_namespace();
        let moved = move_link("gm0", target.as_fd(), "eth0").unwrap();
        assert_eq!(socket.find("gm0").unwrap(), None);
        let mut there = Socket::in_namespace(target.as_fd()).unwrap();
        let link = there.link("eth0").unwrap();
        assert_eq!(link.index, moved.index);
        assert!(link.is_up() && moved.is_up());
        assert_eq!((link.mtu, link.address.as_slice()), (1789, &[2, 0x11, 0x22, 0x33, 0x44, 0x55][..]));
        let found = there.addresses(&link).unwrap();
        for address in &moving {
            let same = |a: &&Address| a.local == address.local && a.peer == address.peer && a.prefix == address.prefix;
            let there = found.iter().find(same).unwrap_or_else(|| panic!("{address:?} in {found:?}"));
            assert_eq!(there.broadcast, address.broadcast);
            assert_eq!(there.flags & IFA_F_GIVEN, address.flags);
            assert!(there.is_global_and_permanent() && (address.metric.is_none() || there.metric == address.metric));
        }
        let link_local = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
        assert!(found.iter().all(|a| a.local != link_local), "{found:?}");
        if let Some(text) = in_namespace(target.as_fd(), || iproute(&["-o", "addr", "show", "dev", "eth0"])) {
            for expect in ["inet 10.9.8.7/24 brd 10.9.8.255", "inet 10.1.1.1 peer 10.1.1.2/32", "inet6 fd00:9::7/64"] {
                assert!(text.contains(expect), "{expect} in {text}");
            }
        }
    });
}

#[test]
fn a_name_that_is_taken_is_refused_before_anything_changes() {
    isolated("a_name_that_is_taken_is_refused_before_anything_changes", || {
        let mut socket = Socket::new().unwrap();
        let link = make_pair(&mut socket, "gm0");
        socket.add_address(&link, &address("10.9.8.7", 24)).unwrap();
        socket.set_up(&link).unwrap();
        let target = other_namespace();
        make_pair(&mut Socket::in_namespace(target.as_fd()).unwrap(), "eth0");
        for new_name in ["eth0", "lo"] {
            let error = move_link("gm0", target.as_fd(), new_name).unwrap_err();
            assert_eq!(error.source.raw_os_error(), Some(libc::EEXIST), "{error}");
            assert!(error.to_string().starts_with("move gm0: file exists ("), "{error}");
        }
        let still = socket.link("gm0").unwrap();
        assert!(still.is_up());
        assert!(socket.addresses(&still).unwrap().iter().any(|a| a.local == IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7))));
        // The name that the device has here may be taken there, if it gets another.
        make_pair(&mut Socket::in_namespace(target.as_fd()).unwrap(), "gm0");
        assert_eq!(move_link("gm0", target.as_fd(), "gm1").unwrap().name, "gm1");
    });
}

#[test]
fn templates_become_unique_names() {
    isolated("templates_become_unique_names", || {
        let mut socket = Socket::new().unwrap();
        let target = other_namespace();
        let mut there = Socket::in_namespace(target.as_fd()).unwrap();
        // So many devices that the numbers of both namespaces overlap.
        for name in ["eth0", "eth1", "x0"] {
            make_pair(&mut there, name);
        }
        // A device whose old name is taken there is numbered twice by the kernel.
        for (name, expect) in [("gm0", "eth2"), ("gm1", "eth3"), ("eth0", "eth5")] {
            let before = make_pair(&mut socket, name);
            let moved = move_link(name, target.as_fd(), "eth%d").unwrap();
            assert_eq!((moved.name.as_str(), &moved.address), (expect, &before.address));
            assert_eq!(there.link(expect).unwrap().index, moved.index);
        }
    });
}

#[test]
fn names_are_kept_and_errors_are_told() {
    isolated("names_are_kept_and_errors_are_told", || {
        let mut socket = Socket::new().unwrap();
        let target = other_namespace();
        make_pair(&mut socket, "gm0");
        assert_eq!(move_link("gm0", target.as_fd(), "").unwrap().name, "gm0");
        let check = |name: &str, target: BorrowedFd<'_>, new_name: &str, errno: i32| {
            let error = move_link(name, target, new_name).unwrap_err();
            assert_eq!(error.source.raw_os_error(), Some(errno), "{name:?} {new_name:?}: {error}");
        };
        make_pair(&mut socket, "gm1");
        check("gm9", target.as_fd(), "", libc::ENODEV);
        check("lo", target.as_fd(), "lo1", libc::EINVAL);
        check("gm1", target.as_fd(), "a/b", libc::EINVAL);
        check("gm1", target.as_fd(), "%s", libc::EINVAL);
        check("gm1", target.as_fd(), &"x".repeat(70_000), libc::EINVAL);
        check("gm1", target.as_fd(), &"x".repeat(16), libc::EINVAL);
        check(&"x".repeat(70_000), target.as_fd(), "x", libc::EMSGSIZE);
        let file = std::fs::File::open("/proc/self/status").unwrap();
        check("gm1", file.as_fd(), "", libc::EINVAL);
        assert!(socket.find("gm1").unwrap().is_some(), "what failed has moved nothing");
    });
}

#[test]
fn what_fails_there_is_brought_back() {
    isolated("what_fails_there_is_brought_back", || {
        let mut socket = Socket::new().unwrap();
        let link = make_pair(&mut socket, "gm0");
        for address in [address("10.9.8.7", 24), address("fd00:9::7", 64)] {
            socket.add_address(&link, &address).unwrap();
        }
        socket.set_up(&link).unwrap();
        let target = other_namespace();
        // A namespace that takes no IPv6 addresses.
        let closed =
            in_namespace(target.as_fd(), || std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
        if let Err(error) = closed {
            skipped("what_fails_there_is_brought_back", format!("IPv6 cannot be switched off: {error}"));
            return;
        }
        let error = move_link("gm0", target.as_fd(), "eth0").unwrap_err();
        assert_eq!(error.action, "give its address to", "{error}");
        let back = socket.link("gm0").unwrap();
        assert_eq!((back.index, &back.address, back.is_up()), (link.index, &link.address, true));
        let addresses: Vec<_> = socket.addresses(&back).unwrap().iter().map(|a| a.local.to_string()).collect();
        for expect in ["10.9.8.7", "fd00:9::7"] {
            assert!(addresses.iter().any(|a| a == expect), "{expect} in {addresses:?}");
        }
        assert_eq!(Socket::in_namespace(target.as_fd()).unwrap().find("eth0").unwrap(), None);
    });
}

/// A header with a length of its own choice.
fn raw(length: u32, kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[test]
fn lengths_are_not_believed() {
    let check = |bytes: &[u8], expect: &[Option<usize>]| {
        let got: Vec<_> = message::messages(bytes).map(|m| m.map(|m| m.payload.len())).collect();
        assert_eq!(got, expect, "{bytes:?}");
    };
    check(&[], &[]);
    check(&raw(16, 16, 0, &[]), &[Some(0)]);
    check(&raw(20, 16, 0, &[1, 2, 3, 4]), &[Some(4)]);
    check(&[raw(17, 16, 0, &[1, 0, 0, 0]), raw(16, 16, 0, &[])].concat(), &[Some(1), Some(0)]);
    check(&raw(17, 16, 0, &[1]), &[Some(1)]);
    for length in [0, 1, 15, 17, 1 << 31, u32::MAX] {
        check(&raw(length, 16, 0, &[]), &[None]);
    }
    for end in 1..16 {
        check(raw(16, 16, 0, &[]).get(..end).unwrap(), &[None]);
    }

    let check = |bytes: &[u8], expect: &[(u16, &[u8])]| {
        assert_eq!(Attributes(bytes).collect::<Vec<_>>(), expect, "{bytes:?}");
    };
    let attribute =
        |length: u16, kind: u16, value: &[u8]| [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    check(&[], &[]);
    check(&attribute(4, 1, &[]), &[(1, &[])]);
    check(&attribute(5, 0x8001, &[9, 0, 0, 0]), &[(1, &[9])]);
    check(&[attribute(5, 1, &[9, 0, 0, 0]), attribute(4, 2, &[])].concat(), &[(1, &[9]), (2, &[])]);
    check(&attribute(5, 1, &[9]), &[(1, &[9])]);
    for length in [0, 1, 3, 6, u16::MAX] {
        check(&attribute(length, 1, &[9]), &[]);
    }
}

#[test]
fn verdicts() {
    let check = |bytes: &[u8], expect: Option<(i32, Option<&str>)>| {
        let verdict = message::messages(bytes).next().flatten().unwrap().verdict();
        assert_eq!(verdict.as_ref().map(|v| (v.errno, v.detail.as_deref())), expect, "{bytes:?}");
    };
    let code = |code: i32| code.to_ne_bytes().to_vec();
    let whole = |kind: u16, flags: u16, payload: &[u8]| raw(16 + payload.len() as u32, kind, flags, payload);
    let told = [&[9, 0, 1, 0][..], b"oops\0\0\0\0"].concat();
    check(&whole(16, 0, &code(-1)), None);
    check(&whole(2, 0, &code(0)), Some((0, None)));
    check(&whole(2, 0, &code(-libc::EPERM)), Some((libc::EPERM, None)));
    check(&whole(2, 0, &code(i32::MIN)), Some((i32::MAX, None)));
    check(&whole(2, 0, &[1, 2]), Some((libc::EBADMSG, None)));
    check(&whole(3, 0, &[]), Some((0, None)));
    check(&whole(3, 0, &code(5)), Some((0, None)));
    check(&whole(3, 0, &code(-libc::EINTR)), Some((libc::EINTR, None)));
    check(&whole(3, 0x200, &[code(-1), told.clone()].concat()), Some((1, Some("oops"))));
    check(&whole(2, 0x300, &[code(-1), vec![0; 16], told.clone()].concat()), Some((1, Some("oops"))));
    let copied = [20_u32.to_ne_bytes().to_vec(), vec![0; 16]].concat();
    check(&whole(2, 0x200, &[code(-1), copied, told.clone()].concat()), Some((1, Some("oops"))));
    for length in [0_u32, 1, 999, u32::MAX] {
        let copied = [length.to_ne_bytes().to_vec(), vec![0; 16]].concat();
        check(&whole(2, 0x200, &[code(-1), copied].concat()), Some((1, None)));
    }
}

#[test]
fn links_and_addresses_are_parsed_with_care() {
    let request = |header: &[u8], attributes: &[(u16, &[u8])]| {
        let request = attributes.iter().fold(Request::new(0, header), |r, (kind, value)| r.attribute(*kind, value));
        request.finish(0).unwrap().split_off(16)
    };
    let good = request(&link_header(3, 1, 0), &[(IFLA_IFNAME, b"eth0\0"), (IFLA_MTU, &1500_u32.to_ne_bytes())]);
    let link = Link { index: 3, name: "eth0".to_owned(), flags: 1, mtu: 1500, address: Vec::new() };
    assert_eq!(parse_link(&good), Some(link));
    for end in 0..good.len() {
        // Cut anywhere, it is either refused or read as far as it goes.
        assert!(parse_link(good.get(..end).unwrap()).is_none_or(|link| link.index == 3), "{end}");
    }
    assert_eq!(parse_link(&request(&link_header(3, 0, 0), &[(IFLA_MTU, b"xx")])), None);

    let (v4, v6) = (libc::AF_INET as u8, libc::AF_INET6 as u8);
    let header = address_header(v4, 24, 0, 3);
    let good = request(&header, &[(IFA_ADDRESS, &[10, 0, 0, 2]), (IFA_LOCAL, &[10, 0, 0, 1])]);
    let parsed = parse_address(&good, 3).unwrap();
    assert_eq!(
        (parsed.local.to_string(), parsed.peer.to_string(), parsed.prefix),
        ("10.0.0.1".into(), "10.0.0.2".into(), 24)
    );
    assert_eq!(parse_address(&good, 4), None);
    let one = Ipv6Addr::LOCALHOST.octets();
    let parsed = parse_address(&request(&address_header(v6, 128, 254, 3), &[(IFA_ADDRESS, &one)]), 3).unwrap();
    assert_eq!((parsed.local, parsed.peer), (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)));
    assert!(!parsed.is_global_and_permanent());
    for bad in [
        request(&header, &[]),
        request(&header, &[(IFA_LOCAL, &[1, 2, 3])]),
        request(&header, &[(IFA_LOCAL, &one)]),
        request(&address_header(v6, 64, 0, 3), &[(IFA_LOCAL, &[1, 2, 3, 4])]),
        request(&address_header(99, 64, 0, 3), &[(IFA_LOCAL, &[1, 2, 3, 4])]),
        request(&header, &[(IFA_LOCAL, &[1, 2, 3, 4]), (IFA_FLAGS, &[1])]),
        vec![0; 7],
    ] {
        assert_eq!(parse_address(&bad, 3), None, "{bad:?}");
    }
}
