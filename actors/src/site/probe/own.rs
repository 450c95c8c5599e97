//! The addresses of this machine: those to which a connection stays on it.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sitewatch_config::IpNet;

use super::exhausted::is_exhausted;

/// The time for which the list is used. An address that the machine gets meanwhile is not guarded before the next look.
const KEPT: Duration = Duration::from_secs(10);

/// The most of a routing table that is read, in bytes. With more the kernel is asked about each address.
const LONGEST: usize = 1 << 20;

/// The kernel's local routes, of every address of every interface.
const V4_ROUTES: &str = "/proc/net/fib_trie";
const V6_ROUTES: &str = "/proc/net/ipv6_route";

/// The flags of an address of an interface in [`V6_ROUTES`] (`RTF_LOCAL | RTF_NONEXTHOP`). A local route that somebody added, such
/// as one for a transparent proxy, has the first of them only.
const IS_LOCAL: u32 = 0x8020_0000;

static OWN: LazyLock<Own> = LazyLock::new(Own::default);

/// Returns true if an interface of this machine has the address. Sends nothing. Reads the routes at most once in ten seconds.
///
/// # Errors
/// If there are no more files or sockets: the answer is not known then, and no connection could be made either.
pub(super) fn is_of_this_machine(address: IpAddr) -> io::Result<bool> {
    match OWN.holds(address, Instant::now(), Routes::read)? {
        Some(is_own) => Ok(is_own),
        None => ask_kernel(address),
    }
}

/// The local routes, with the time until which they are used.
#[derive(Default)]
struct Own(Mutex<Option<(Instant, Routes)>>);

impl Own {
    /// Looks `address` up in the routes; `read` reads them where there are none, or where they are too old. Returns `None` if
    /// this system does not list them.
    fn holds(
        &self,
        address: IpAddr,
        now: Instant,
        read: impl FnOnce() -> io::Result<Routes>,
    ) -> io::Result<Option<bool>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(until, _)| now >= *until) {
            *kept = Some((now + KEPT, read()?));
        }
        Ok(kept.as_ref().and_then(|(_, routes)| routes.hold(address)))
    }
}

/// The networks of each family that are on this machine; `None` where the system does not list them.
struct Routes {
    v4: Option<Vec<IpNet>>,
    v6: Option<Vec<IpNet>>,
}

impl Routes {
    fn read() -> io::Result<Self> {
        Ok(Self {
            v4: table(V4_ROUTES)?.and_then(|text| some(local_v4(&text))),
            v6: table(V6_ROUTES)?
                .and_then(|text| some(text.lines().filter_map(local_v6).collect())),
        })
    }

    fn hold(&self, address: IpAddr) -> Option<bool> {
        let networks = match address {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        }?;
        Some(networks.iter().any(|network| network.contains(&address)))
    }
}

/// A table without any local network tells nothing: each machine has a loopback address.
fn some(networks: Vec<IpNet>) -> Option<Vec<IpNet>> {
    (!networks.is_empty()).then_some(networks)
}

/// Reads a table. Returns `None` if there is none, or if it is too long.
fn table(path: &str) -> io::Result<Option<String>> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(LONGEST as u64).read_to_string(&mut text));
    match read {
        Ok(length) => Ok((length < LONGEST).then_some(text)),
        Err(error) if is_exhausted(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The local networks of the table `Local` in a text such as
/// ```text
/// Local:
///            |-- 192.0.2.2
///               /32 host LOCAL
/// ```
/// Another table may have local routes for some of the traffic only, such as that of a transparent proxy.
fn local_v4(trie: &str) -> Vec<IpNet> {
    let (mut address, mut in_local) = ("", false);
    let mut networks = Vec::new();
    for line in trie.lines() {
        if !line.starts_with(' ') {
            in_local = line == "Local:";
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["|--", next] => address = next,
            [prefix, _, "LOCAL", ..] if in_local => {
                networks.extend(format!("{address}{prefix}").parse::<IpNet>().ok())
            }
            _ => {}
        }
    }
    networks
}

/// The network of a line, if it is local: destination and length of its prefix come first, the flags are the ninth field, all
/// hexadecimal.
fn local_v6(line: &str) -> Option<IpNet> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
    if flags & IS_LOCAL != IS_LOCAL {
        return None;
    }
    let address = u128::from_str_radix(fields[0], 16).ok()?;
    let length = u8::from_str_radix(fields[1], 16).ok()?;
    IpNet::new(Ipv6Addr::from_bits(address).into(), length).ok()
}

/// Asks the kernel: a socket can begin at an own address only. Where `ip_nonlocal_bind` lets it begin anywhere, the route is asked
/// for, which begins at the address itself if it is the first of an interface.
fn ask_kernel(address: IpAddr) -> io::Result<bool> {
    // Of networks for documentation: nobody has them.
    let nobodys: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 0).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    if begins_at(nobodys)? {
        return is_route_from(address);
    }
    begins_at(address)
}

fn begins_at(address: IpAddr) -> io::Result<bool> {
    known(UdpSocket::bind((address, 0)).map(|_| true))
}

fn is_route_from(address: IpAddr) -> io::Result<bool> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    known(UdpSocket::bind((any, 0)).and_then(|socket| {
        // The port has no part in it.
        socket.connect((address, 9))?;
        Ok(socket.local_addr()?.ip() == address)
    }))
}

/// An error says that the address is not here: there is no route to it, or no such family. Without sockets nothing is known.
fn known(answer: io::Result<bool>) -> io::Result<bool> {
    match answer {
        Err(error) if !is_exhausted(&error) => Ok(false),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_routes_are_read_once_for_many_addresses_and_anew_after_a_while() {
        let (own, reads) = (Own::default(), std::cell::Cell::new(0));
        let begun = Instant::now();
        let holds = |text: &str, now: Instant| {
            own.holds(ip(text), now, || {
                reads.set(reads.get() + 1);
                Ok(Routes {
                    v4: Some(vec!["9.9.9.9/32".parse().unwrap()]),
                    v6: None,
                })
            })
            .unwrap()
        };
        for n in 0..1000 {
            let other = format!("8.8.{}.{}", n / 256, n % 256);
            assert_eq!(holds(&other, begun), Some(false));
        }
        assert_eq!(holds("9.9.9.9", begun), Some(true));
        assert_eq!(holds("2001:db8::1", begun), None);
        assert_eq!(reads.get(), 1);
        assert_eq!(holds("9.9.9.9", begun + KEPT), Some(true));
        assert_eq!(reads.get(), 2);
    }

    #[test]
    fn routes_that_cannot_be_read_are_read_again() {
        let own = Own::default();
        let failed = own.holds(ip("9.9.9.9"), Instant::now(), || {
            Err(io::Error::other("no more files"))
        });
        assert!(failed.is_err());
        let read = own.holds(ip("9.9.9.9"), Instant::now(), Routes::read);
        assert_ne!(read.unwrap(), Some(true));
    }

    #[test]
    fn only_local_routes_are_addresses_of_this_machine() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.2\n\
            \x20       /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n     |-- 203.0.113.0\n\
            \x20       /24 host LOCAL\n\
            Id 100:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 host LOCAL\n";
        let shown =
            |networks: Vec<IpNet>| networks.iter().map(IpNet::to_string).collect::<Vec<_>>();
        assert_eq!(shown(local_v4(trie)), ["192.0.2.2/32", "203.0.113.0/24"]);
        let rest = "00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000001 00000000";
        let line = |flags: &str| format!("20010db8000000000000000000000002 80 {rest} {flags} eth0");
        let local = local_v6(&line("80200001")).unwrap();
        assert_eq!(local.to_string(), "2001:db8::2/128");
        assert_eq!(local_v6(&line("00000001")), None);
        assert_eq!(local_v6(&line("80000001")), None);
        assert_eq!(local_v6("nonsense"), None);
    }

    #[test]
    fn list_and_kernel_agree() {
        for address in ["127.0.0.1", "127.0.0.9", "192.0.2.77", "2001:db8::2", "::1"] {
            let asked = ask_kernel(ip(address)).unwrap();
            assert_eq!(is_of_this_machine(ip(address)).unwrap(), asked, "{address}");
        }
        // That of the interface to the outside, if there is one.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let own = socket.local_addr().unwrap().ip();
            assert!(ask_kernel(own).unwrap() && is_of_this_machine(own).unwrap());
        }
    }
}
