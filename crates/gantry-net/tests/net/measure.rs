//! How long things take; to be read, not to be held to, since the machine may have other work.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gantry_net::dns::{Resolver, View};
use gantry_net::{Desired, Mac, PortMapping, Protocol, create_netns, plan, remove_netns};

use crate::kit::{endpoint, on_host};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed<T>(times: &mut Vec<Duration>, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = act();
    times.push(start.elapsed());
    result
}

#[test]
#[ignore = "it measures"]
fn cost_of_the_last_of_many() {
    on_host("many", |host| {
        let network = host.network(1, |network| network.subnets[0].cidr = "10.1.0.0/16".parse().unwrap());
        let paths: Vec<_> = (0..1000).map(|number| host.path(&format!("many-{number}"))).collect();
        let (mut times, mut joins) = (Vec::new(), Vec::new());
        for (number, path) in (0_u16..).zip(&paths) {
            let [high, low] = number.to_be_bytes();
            let mut endpoint = endpoint(&network, 2);
            endpoint.id = format!("{number:04x}{}", "0".repeat(28));
            endpoint.addresses = vec![[10, 1, high + 1, low].into()];
            endpoint.mac = Mac::of_ipv4([10, 1, high + 1, low].into());
            let plan = plan::endpoint(host.net.names(), &network, &endpoint).unwrap();
            let netns = timed(&mut times, || create_netns(path).unwrap());
            timed(&mut joins, || host.net.attach(&netns, &[plan])).unwrap();
        }
        for (what, times) in [("make a namespace", times), ("attach", joins)] {
            let (first, last) = (median(times[..50].to_vec()), median(times[950..].to_vec()));
            println!("{what}: {first:?} for the first 50, {last:?} for the last 50 of 1000");
        }
        let start = Instant::now();
        for path in &paths {
            remove_netns(path).unwrap();
        }
        while crate::kit::count("gttv") > 0 && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(crate::kit::count("gttv"), 0);
        println!("all 1000 gone after {:?}", start.elapsed());
    });
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss_Anon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "it measures"]
fn cost_of_resolvers() {
    on_host("resolvers", |host| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _context = runtime.enter();
        let resolver = Resolver::new();
        let namespaces: Vec<_> = (0..500).map(|n| create_netns(&host.path(&format!("dns-{n}"))).unwrap()).collect();
        let mut times = Vec::new();
        let before = resident();
        let listeners: Vec<_> = namespaces
            .iter()
            .map(|netns| timed(&mut times, || resolver.listen(netns.as_fd(), View::default())).unwrap())
            .collect();
        println!("listen: {:?}", median(times));
        println!("memory of each of {}: {} KiB in all", listeners.len(), resident() - before);
    });
}

#[test]
#[ignore = "it measures"]
fn costs() {
    on_host("costs", |host| {
        let network = host.network(1, |_| ());
        let (mut making, mut attaching, mut removing, mut publishing, mut taking_back) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let path = host.path("cost");
        for last in (2..=201).chain(2..=201) {
            let netns = timed(&mut making, || create_netns(&path)).unwrap();
            let plan = plan::endpoint(host.net.names(), &network, &endpoint(&network, last)).unwrap();
            timed(&mut attaching, || host.net.attach(&netns, &[plan])).unwrap();
            drop(netns);
            timed(&mut removing, || remove_netns(&path)).unwrap();
        }
        let mapping = |number: u16| PortMapping {
            host: "0.0.0.0".parse().unwrap(),
            host_port: number,
            protocol: Protocol::Tcp,
            target: "10.1.0.2".parse().unwrap(),
            target_port: 80,
        };
        for number in 1000..1200 {
            timed(&mut publishing, || host.net.publish(&[mapping(number)])).unwrap();
        }
        for number in 1000..1200 {
            timed(&mut taking_back, || host.net.unpublish(&[mapping(number)])).unwrap();
        }
        let many = |count: u16| Desired {
            networks: vec![network.clone()],
            endpoints: Vec::new(),
            ports: (1000..1000 + count).map(mapping).collect(),
        };
        let mut syncing = Vec::new();
        timed(&mut syncing, || host.net.sync(&many(10_000))).unwrap();
        let (mut late, mut udp) = (Vec::new(), Vec::new());
        for number in 20_000..20_200 {
            timed(&mut late, || host.net.publish(&[mapping(number)])).unwrap();
            let datagrams = PortMapping { protocol: Protocol::Udp, ..mapping(number) };
            timed(&mut udp, || host.net.publish(&[datagrams])).unwrap();
        }
        for (what, times) in [
            ("make a namespace", making),
            ("attach", attaching),
            ("remove a namespace", removing),
            ("publish a port", publishing),
            ("take back a port", taking_back),
            ("sync with 10,000 ports", syncing),
            ("publish one more", late),
            ("publish a port of datagrams", udp),
        ] {
            println!("{what}: {:?}", median(times));
        }
    });
}
