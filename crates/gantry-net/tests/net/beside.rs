//! Beside a Docker Engine, which drops what it does not know.

use gantry_net::Protocol::Tcp;
use gantry_sys::netlink::{Batch, Channel, Subsystem};

use crate::kit::{HOST, OUTSIDE, ask, ask_in_vain, inside, on_host, port, serve};

/// A table as Docker makes it: what is forwarded goes through a chain for others, and is dropped.
fn docker() {
    let header = |family: u8, resource: u8| [family, 0, 0, resource];
    let mut batch = Batch::new();
    batch.push(0x10, 0, &header(0, 10), |_| ());
    batch.push(0xa00, 0x400, &header(2, 0), |body| {
        body.text(1, "filter");
    });
    batch.push(0xa03, 0x400, &header(2, 0), |body| {
        body.text(1, "filter").text(3, "DOCKER-USER");
    });
    batch.push(0xa03, 0x400, &header(2, 0), |body| {
        body.text(1, "filter").text(3, "FORWARD").text(7, "filter").network_number(5, 0);
        body.nest(4, |body| {
            body.network_number(1, 2).network_number(2, 0);
        });
    });
    verdict(&mut batch, "FORWARD", -3, Some("DOCKER-USER"));
    verdict(&mut batch, "DOCKER-USER", -5, None);
    batch.push(0x11, 0, &header(0, 10), |_| ());
    assert_eq!(Channel::new(Subsystem::Netfilter).unwrap().submit(&mut batch).unwrap(), []);
}

/// A rule that has a verdict for everything.
fn verdict(batch: &mut Batch, chain: &str, code: i32, target: Option<&str>) {
    batch.push(0xa06, 0xc00, &[2, 0, 0, 0], |body| {
        body.text(1, "filter").text(2, chain);
        body.nest(4, |list| {
            list.nest(1, |element| {
                element.text(1, "immediate").nest(2, |body| {
                    body.network_number(1, 0).nest(2, |body| {
                        body.nest(2, |body| {
                            body.network_number(1, code.cast_unsigned());
                            if let Some(target) = target {
                                body.text(2, target);
                            }
                        });
                    });
                });
            });
        });
    });
}

#[test]
fn a_docker_engine_is_no_hindrance() {
    on_host("beside", |host| {
        let one = host.network(1, |_| ());
        let (a, b) = (host.container(&one, 2), host.container(&one, 3));
        serve(&b.netns, Tcp, 80);
        serve(host.outside(), Tcp, 80);
        docker();
        assert_eq!(inside(&a.netns, || ask_in_vain(Tcp, &format!("{OUTSIDE}:80"))), "nothing");
        // With the next container that joins a network all of them pass again.
        let two = host.network(2, |_| ());
        let c = host.container(&two, 2);
        host.net.publish(&[port("0.0.0.0", 8080, Tcp, &b, 80)]).unwrap();
        assert_eq!(inside(&a.netns, || ask(Tcp, &format!("{OUTSIDE}:80"))), HOST);
        assert_eq!(inside(&a.netns, || ask(Tcp, "10.1.0.3:80")), "10.1.0.2");
        assert_eq!(inside(host.outside(), || ask(Tcp, &format!("{HOST}:8080"))), OUTSIDE);
        // And still only they, and only where they may.
        assert_eq!(inside(&c.netns, || ask_in_vain(Tcp, "10.1.0.3:80")), "nothing");
        host.net.clear().unwrap();
        host.net.clear().unwrap();
    });
}
