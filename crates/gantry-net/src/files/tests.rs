//! Texts of files, as programs read them.

use super::*;

#[test]
fn resolv_conf() {
    let settings = |servers: &[&str], search: &[&str], options: &[&str]| DnsSettings {
        servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
        search: search.iter().map(ToString::to_string).collect(),
        options: options.iter().map(ToString::to_string).collect(),
    };
    let none = settings(&[], &[], &[]);
    let check = |host: &str, settings: &DnsSettings, service, expect: &str, upstreams: &[&str]| {
        let (conf, asked) = ResolvConf::for_container(host, settings, service);
        assert_eq!(conf.text(), expect, "{host:?}");
        assert_eq!(asked.iter().map(ToString::to_string).collect::<Vec<_>>(), upstreams, "{host:?}");
    };
    let host = "# made by hand\nnameserver 127.0.0.53\nnameserver\t10.0.0.1\nnameserver fe80::1%eth0\n\
                domain old\nsearch a.example b.example\noptions edns0 trust-ad\nnonsense\n";
    check(
        host,
        &none,
        NameService::Default,
        "nameserver 10.0.0.1\nsearch a.example b.example\noptions edns0 trust-ad\n",
        &[],
    );
    check(
        host,
        &none,
        NameService::Own,
        "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\n",
        &["127.0.0.53:53", "10.0.0.1:53"],
    );
    check(
        host,
        &none,
        NameService::Host,
        "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a.example b.example\noptions edns0 trust-ad\n",
        &[],
    );
    check("", &none, NameService::Default, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", &[]);
    check("", &none, NameService::Own, "nameserver 127.0.0.11\noptions ndots:0\n", &[]);
    check(
        host,
        &settings(&["127.0.0.1", "1.1.1.1"], &["."], &["ndots:2"]),
        NameService::Default,
        "nameserver 127.0.0.1\nnameserver 1.1.1.1\noptions ndots:2\n",
        &[],
    );
    check(
        host,
        &settings(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::4"], &["c.example"], &["ndots:2"]),
        NameService::Own,
        "nameserver 127.0.0.11\nsearch c.example\noptions ndots:2\n",
        &["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53"],
    );
}

#[test]
fn hosts() {
    let own = vec![("172.18.0.2".parse().unwrap(), vec!["0123456789ab".to_owned()])];
    let extra = ["db:10.0.0.1", "host.docker.internal:host-gateway", "six=[fd00::1]"];
    let extra = extra.iter().map(|text| parse_extra_host(text).unwrap()).collect();
    let hosts = Hosts { own, extra, ipv6: true };
    let expect = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                  ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n10.0.0.1\tdb\n\
                  172.17.0.1\thost.docker.internal\nfd00::1\tsix\n172.18.0.2\t0123456789ab\n";
    assert_eq!(hosts_file(&hosts, Some("172.17.0.1".parse().unwrap())), expect);
    let without = hosts_file(&Hosts { ipv6: false, ..hosts }, None);
    assert_eq!(without, "127.0.0.1\tlocalhost\n10.0.0.1\tdb\nfd00::1\tsix\n172.18.0.2\t0123456789ab\n");
}

#[test]
fn extra_hosts() {
    let check = |text: &str, expect: Option<(&str, &str)>| {
        let parsed = parse_extra_host(text).ok().map(|(name, address)| match address {
            HostAddress::Address(address) => (name, address.to_string()),
            HostAddress::Gateway => (name, "gateway".to_owned()),
        });
        let parsed = parsed.as_ref().map(|(name, address)| (name.as_str(), address.as_str()));
        assert_eq!(parsed, expect, "{text}");
    };
    check("a:10.0.0.1", Some(("a", "10.0.0.1")));
    check("a=fd00::1", Some(("a", "fd00::1")));
    check("a:fd00::1", Some(("a", "fd00::1")));
    check("a:[fd00::1]", Some(("a", "fd00::1")));
    check("a:host-gateway", Some(("a", "gateway")));
    check("a", None);
    check(":10.0.0.1", None);
    check("a b:10.0.0.1", None);
    check("a\nb:10.0.0.1", None);
    check("a:10.0.0", None);
    check("a:", None);
}
