use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use url::Host;

use super::super::pem;
use super::{Authority, LIFETIME, Leaves, MOST, RENEWED};

fn domain(name: &str) -> Host<String> {
    Host::Domain(name.into())
}

fn leaves() -> Leaves {
    Leaves::new(Authority::new(SystemTime::now(), None).unwrap()).unwrap()
}

#[test]
fn a_certificate_is_made_once_and_again_a_day_before_its_end() {
    let (leaves, now) = (leaves(), SystemTime::now());
    let host = domain("api.example");
    let first = leaves.get(&host, now).unwrap();
    assert!(Arc::ptr_eq(&first, &leaves.get(&host, now).unwrap()));
    let last = now + LIFETIME - RENEWED;
    let before = leaves.get(&host, last - Duration::from_secs(1)).unwrap();
    assert!(Arc::ptr_eq(&first, &before));
    let renewed = leaves.get(&host, last).unwrap();
    assert!(!Arc::ptr_eq(&first, &renewed));
    assert!(Arc::ptr_eq(&renewed, &leaves.get(&host, last).unwrap()));
}

#[test]
fn the_last_before_the_authoritys_end_are_made_once_a_day() {
    let (leaves, now) = (leaves(), SystemTime::now());
    let (host, end) = (domain("api.example"), leaves.authority.expires());
    let late = end - Duration::from_hours(12);
    for at in [late, end + Duration::from_hours(1)] {
        let made = leaves.get(&host, at).unwrap();
        assert!(Arc::ptr_eq(&made, &leaves.get(&host, at + Duration::from_mins(1)).unwrap()));
    }
    assert_eq!(leaves.ending(now), None);
    assert_eq!(leaves.ending(late), Some(end));
    assert_eq!(leaves.ending(end), Some(end));
}

#[test]
fn threads_that_ask_at_once_get_the_same() {
    let (leaves, now) = (leaves(), SystemTime::now());
    let host = domain("api.example");
    let made: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..8).map(|_| scope.spawn(|| leaves.get(&host, now).unwrap())).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|config| Arc::ptr_eq(config, &made[0])));
}

#[test]
fn so_many_are_kept_and_no_more() {
    let (leaves, now) = (leaves(), SystemTime::now());
    let first = leaves.get(&domain("0.example"), now).unwrap();
    for number in 0..=MOST {
        let leaf = super::Leaf { config: Arc::clone(&first), renewed: now + LIFETIME };
        leaves.kept.insert(domain(&format!("{number}.example")), leaf);
    }
    leaves.get(&domain("another.example"), now).unwrap();
    assert!(leaves.kept.len() <= MOST + 1, "{}", leaves.kept.len());
    // All are due: room is made of them.
    leaves.get(&domain("later.example"), now + LIFETIME).unwrap();
    assert_eq!(leaves.kept.len(), 1);
}

/// `openssl verify`, which is not everywhere.
fn openssl(authority: &Authority, host: &Host<String>, name: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let minted = authority.mint(host, SystemTime::now(), LIFETIME).unwrap();
    let [ca, leaf] = ["ca.pem", "leaf.pem"].map(|name| dir.path().join(name));
    std::fs::write(&ca, pem(&authority.certificates()[0])).unwrap();
    std::fs::write(&leaf, pem(&minted.chain[0])).unwrap();
    let flag = if matches!(host, Host::Domain(_)) { "-verify_hostname" } else { "-verify_ip" };
    let mut openssl = Command::new("openssl");
    openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", flag, name, "-CAfile"]);
    let done = openssl.arg(&ca).arg(&leaf).output().ok()?;
    Some(String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

#[test]
fn openssl_accepts_them_at_its_strictest() {
    let long = format!("{}.example", ["a"; 60].join("."));
    let hosts = [
        domain("api.example"),
        domain(&long),
        Host::Ipv4([127, 0, 0, 1].into()),
        Host::Ipv6("::1".parse().unwrap()),
    ];
    let constrained =
        [domain("example"), Host::Ipv4([127, 0, 0, 1].into()), Host::Ipv6("::1".parse().unwrap())];
    for constraints in [None, Some(&constrained[..])] {
        let authority = Authority::new(SystemTime::now(), constraints).unwrap();
        for host in &hosts {
            let name = host.to_string();
            let said = openssl(&authority, host, name.trim_matches(['[', ']']));
            assert!(said.as_ref().is_none_or(|said| said.ends_with(": OK\n")), "{said:?}");
        }
    }
}

#[test]
fn a_constrained_authority_vouches_for_its_hosts_alone() {
    let names = Authority::new(SystemTime::now(), Some(&[domain("api.example")])).unwrap();
    let address = Host::Ipv4([127, 0, 0, 1].into());
    let addresses =
        Authority::new(SystemTime::now(), Some(std::slice::from_ref(&address))).unwrap();
    let other = Host::Ipv4([127, 0, 0, 2].into());
    for (authority, host, name) in [
        (&names, domain("other.example"), "other.example"),
        (&names, address, "127.0.0.1"),
        (&addresses, domain("api.example"), "api.example"),
        (&addresses, other, "127.0.0.2"),
    ] {
        let said = openssl(authority, &host, name);
        let is_refused = |said: &String| said.contains("subtree violation");
        assert!(said.as_ref().is_none_or(is_refused), "{name}: {said:?}");
    }
}

#[test]
fn two_authorities_have_two_names() {
    let [a, b] = [(); 2].map(|()| Authority::new(SystemTime::now(), None).unwrap());
    assert_ne!(a.certificates(), b.certificates());
    assert!(!format!("{a:?}").contains("KeyPair"));
}
