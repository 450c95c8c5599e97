//! The guard on the addresses to which a node connects. Pure.
//!
//! A monitor asks URLs that people write down, and follows redirects that strangers send. Without a guard it can be led
//! into the network that it stands in ("server-side request forgery"): to a cloud's metadata service, or a database.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use sitewatch_config::{GuardOptions, IpNet};

use super::super::attempt::Failure;
use crate::model::ErrorKind;

/// Link-local addresses, and those at which clouds serve metadata to their machines, credentials among it: the network, and what
/// is there. Who allows private addresses does not mean these, so that only a network that holds nothing else allows them.
const METADATA: [(&str, &str); 9] = [
    (
        "169.254.0.0/16",
        "a link-local address (cloud metadata is there)",
    ),
    (
        "fe80::/10",
        "a link-local address (cloud metadata is there)",
    ),
    ("fd00:ec2::/32", "an address of AWS metadata"),
    ("fd20:ce::/32", "an address of Google Cloud metadata"),
    ("fd00:42::42/128", "the address of Scaleway metadata"),
    (
        "100.100.100.200/32",
        "the address of Alibaba Cloud metadata",
    ),
    ("168.63.129.16/32", "the address of Azure's wire server"),
    ("192.0.0.192/32", "the address of Oracle Cloud metadata"),
    ("192.80.8.124/32", "the address of Equinix Metal metadata"),
];

/// Why an address must not be connected to.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In words.
    pub(super) why: String,
    /// The setting that would allow it; empty if none does.
    remedy: &'static str,
}

/// Judges `address`. Returns the refusal, if it must not be connected to. Calls `is_own` (is this an address of this machine?) only
/// if nothing else decides.
///
/// # Errors
/// Those of `is_own`.
pub(super) fn refuse(
    address: IpAddr,
    options: &GuardOptions,
    is_own: impl FnOnce(IpAddr) -> io::Result<bool>,
) -> io::Result<Option<Refusal>> {
    let plain = plain(address);
    let within = |networks: &[IpNet]| {
        let mut networks = networks.iter();
        networks.any(|network| network.contains(&address) || network.contains(&plain))
    };
    let refusal = |what: &str, remedy| {
        Ok(Some(Refusal {
            why: format!("{address} is {what}"),
            remedy,
        }))
    };
    if within(&options.deny_networks) {
        return refusal("in deny_networks", "");
    }
    if let Some((network, what)) = metadata(plain) {
        let names_it = |allowed: &&IpNet| network.contains(*allowed) && allowed.contains(&plain);
        return match options.allow_networks.iter().find(names_it) {
            Some(_) => Ok(None),
            None => refusal(
                what,
                "; only allow_networks with this very network allows it",
            ),
        };
    }
    if options.allow_private || within(&options.allow_networks) {
        return Ok(None);
    }
    let remedy = "; allow_private: true or allow_networks allow it";
    match special_use(plain) {
        Some(what) => refusal(what, remedy),
        None if is_own(plain)? => refusal("an address of this machine", remedy),
        None => Ok(None),
    }
}

/// The failure where every address is refused, for these reasons.
pub(super) fn blocked(refusals: &[Refusal]) -> Failure {
    let reasons: Vec<&str> = refusals.iter().map(|refusal| &*refusal.why).collect();
    let has_no_remedy = refusals.iter().any(|refusal| refusal.remedy.is_empty());
    let remedy = if has_no_remedy {
        ""
    } else {
        refusals.last().map_or("", |refusal| refusal.remedy)
    };
    let detail = format!("{}{remedy}", reasons.join(", "));
    Failure::new(ErrorKind::BlockedAddress, detail)
}

/// [`METADATA`], parsed.
static METADATA_NETWORKS: LazyLock<Vec<(IpNet, &str)>> = LazyLock::new(|| {
    let parsed = METADATA.iter().map(|(network, what)| {
        // A test parses them all.
        let network = network
            .parse()
            .unwrap_or_else(|_| unreachable!("{network} is valid"));
        (network, *what)
    });
    parsed.collect()
});

/// The network of [`METADATA`] in which an address is, and what is there.
fn metadata(address: IpAddr) -> Option<(IpNet, &'static str)> {
    let mut networks = METADATA_NETWORKS.iter();
    networks
        .find(|(network, _)| network.contains(&address))
        .copied()
}

/// The IPv4 address inside of an IPv6 address that leads to it: mapped, compatible, NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let from = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            from(high, low)
        }
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => from(high, low),
        [0x2002, high, low, ..] => from(high, low),
        _ => address,
    }
}

/// What an address that is not public is for (the special-purpose registries of IANA, RFC 6890). Written out, since the
/// standard library's `is_global` is not stable.
fn special_use(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("an address of \"this network\""),
        (127, ..) => Some("a loopback address"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Some("a private address"),
        (100, 64..=127, _) => Some("an address shared behind carrier NAT"),
        (192, 0, 0) => Some("an address for protocol assignments"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("an address for documentation"),
        (192, 88, 99) => Some("an address of 6to4 relays"),
        (198, 18..=19, _) => Some("an address for benchmarks"),
        (224..=239, ..) => Some("a multicast address"),
        (240.., ..) => Some("a reserved address"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some("a loopback address");
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("the unspecified address"),
        [0x64, 0xff9b, 1, ..] => Some("an address of local NAT64"),
        [0x100, 0, 0, 0, ..] => Some("an address that discards"),
        [0x2001, 0..=0x1ff, ..] => Some("an address for protocol assignments"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("an address for documentation"),
        [0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xfec0..=0xfeff, ..] => Some("a site-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        // Only 2000::/3 has been given out.
        [first, ..] if first & 0xe000 != 0x2000 => Some("a reserved address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(address: IpAddr, options: &GuardOptions) -> Option<Refusal> {
        refuse(address, options, |_| Ok(false)).unwrap()
    }

    fn refused(text: &str, options: &GuardOptions) -> bool {
        judged(text.parse().unwrap(), options).is_some()
    }

    #[test]
    fn metadata_is_reached_only_by_its_name() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let open = GuardOptions {
            allow_private: true,
            allow_networks: nets(&["0.0.0.0/0", "::/0", "fd00::/8", "100.64.0.0/10"]),
            deny_networks: Vec::new(),
        };
        for (network, _) in METADATA {
            let network: IpNet = network.parse().unwrap();
            assert!(judged(network.addr(), &open).is_some(), "{network}");
            let named = GuardOptions {
                allow_networks: vec![network],
                ..GuardOptions::default()
            };
            assert!(judged(network.addr(), &named).is_none(), "{network}");
        }
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::a9fe:a9fe",
            "fd00:ec2::23",
        ] {
            assert!(refused(text, &open), "{text}");
        }
        for text in ["fd00:ec3::1", "100.100.100.201", "192.168.0.1", "::1"] {
            assert!(!refused(text, &open), "{text}");
        }
        let one = GuardOptions {
            allow_networks: nets(&["169.254.1.1/32"]),
            ..GuardOptions::default()
        };
        assert!(!refused("169.254.1.1", &one) && refused("169.254.169.254", &one));
    }

    #[test]
    fn an_address_of_this_machine_is_private() {
        let mut options = GuardOptions::default();
        let own =
            |options: &GuardOptions| refuse("9.9.9.9".parse().unwrap(), options, |_| Ok(true));
        let refusal = own(&options).unwrap().unwrap();
        assert_eq!(refusal.why, "9.9.9.9 is an address of this machine");
        assert!(
            refuse("9.9.9.9".parse().unwrap(), &options, |_| Err(
                io::Error::other("no more")
            ))
            .is_err()
        );
        options.allow_private = true;
        assert!(own(&options).unwrap().is_none());
    }

    #[test]
    fn only_public_addresses_pass() {
        let strict = GuardOptions::default();
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "64:ff9b:1::1",
            "2001::1",
            "5f00::1",
        ] {
            assert!(refused(text, &strict), "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "9.9.9.9",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2a00:1450:4001::1",
        ] {
            assert!(!refused(text, &strict), "{text}");
        }
    }

    #[test]
    fn lists_allow_and_deny_and_deny_wins() {
        let mut options = GuardOptions {
            allow_networks: vec!["10.1.0.0/16".parse().unwrap()],
            ..GuardOptions::default()
        };
        assert!(!refused("10.1.2.3", &options) && refused("10.2.2.3", &options));
        assert!(!refused("::ffff:10.1.2.3", &options));
        options.deny_networks = vec![
            "10.1.2.0/24".parse().unwrap(),
            "9.9.9.9/32".parse().unwrap(),
        ];
        options.allow_private = true;
        assert!(refused("10.1.2.3", &options) && refused("9.9.9.9", &options));
        assert!(refused("::ffff:9.9.9.9", &options) && !refused("127.0.0.1", &options));
    }

    proptest! {
        #[test]
        fn an_address_in_another_dress_is_judged_alike(bits in any::<u32>()) {
            let strict = GuardOptions::default();
            let v4 = Ipv4Addr::from_bits(bits);
            let is_refused = judged(v4.into(), &strict).is_some();
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for dressed in [v4.to_ipv6_mapped(), Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low), Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)] {
                prop_assert_eq!(judged(dressed.into(), &strict).is_some(), is_refused, "{}", dressed);
            }
        }

        #[test]
        fn what_the_standard_library_calls_special_never_passes(bits in any::<u32>(), bits6 in any::<u128>()) {
            let strict = GuardOptions::default();
            let v4 = Ipv4Addr::from_bits(bits);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified() {
                prop_assert!(judged(v4.into(), &strict).is_some());
            }
            let v6 = Ipv6Addr::from_bits(bits6);
            if v6.is_multicast() || v6.is_unique_local() || v6.is_unicast_link_local() {
                prop_assert!(judged(v6.into(), &strict).is_some());
            }
        }
    }
}
