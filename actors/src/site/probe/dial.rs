//! From addresses to a TCP connection: all of them are tried, a little after one another (RFC 8305, "happy eyeballs").

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt},
};
use sitewatch_config::{ConnectionOptions, IpVersion, Site};
use tokio::net::{TcpSocket, TcpStream};
use url::Host;

use super::{
    super::attempt::Failure,
    exhausted::is_exhausted,
    guard::{self, Refusal},
    own::is_of_this_machine,
    resolve::resolve,
    trace::Trace,
};
use crate::model::ErrorKind;

/// How long one address may take before the next one is tried as well (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to whichever of `addresses` answers first. Those that the guard refuses are left out.
///
/// # Errors
/// `blocked_address` if none is left, `internal_error` if the guard can't tell; else what the last one said, with the words of
/// all.
pub(super) async fn dial(
    addresses: &[IpAddr],
    port: u16,
    options: &ConnectionOptions,
    guarded: bool,
    trace: &Trace,
) -> Result<TcpStream, Failure> {
    let (mut blocked, mut open) = (Vec::new(), Vec::new());
    for address in addresses.iter().filter(|address| fits(address, options)) {
        match guarded
            .then(|| refuse(*address, options))
            .transpose()?
            .flatten()
        {
            Some(why) => blocked.push(why),
            None => open.push(*address),
        }
    }
    if open.is_empty() {
        return Err(if blocked.is_empty() {
            none_fits()
        } else {
            guard::blocked(&blocked)
        });
    }
    blocked.truncate(MOST_REFUSED);
    let reasons = blocked.into_iter().map(|refusal| refusal.why);
    trace.refused.borrow_mut().extend(reasons);
    race(in_turn(open), port, options.source_address, trace).await
}

/// Asks the guard about `address`. Returns its refusal, if it refuses.
///
/// # Errors
/// `internal_error` if there are no more sockets to tell.
pub(super) fn refuse(
    address: IpAddr,
    options: &ConnectionOptions,
) -> Result<Option<Refusal>, Failure> {
    let refused = guard::refuse(address, &options.guard, is_of_this_machine);
    refused.map_err(|error| Failure::new(kind_of(&error), plain(&error)))
}

/// The addresses of a site to which its settings let a connection go.
///
/// # Errors
/// `dns_error` or `dns_timeout` if there is none.
pub(in crate::site) async fn addresses_of(site: &Site) -> Result<Vec<IpAddr>, Failure> {
    let options = &site.options.connection;
    let mut addresses = match site.url.host() {
        Some(Host::Ipv4(address)) => vec![IpAddr::V4(address)],
        Some(Host::Ipv6(address)) => vec![IpAddr::V6(address)],
        Some(Host::Domain(name)) => resolve(name, options).await?,
        None => Vec::new(),
    };
    addresses.retain(|address| fits(address, options));
    if addresses.is_empty() {
        return Err(none_fits());
    }
    Ok(addresses)
}

fn none_fits() -> Failure {
    Failure::new(
        ErrorKind::DnsError,
        "no address fits ip_version and source_address",
    )
}

fn fits(address: &IpAddr, options: &ConnectionOptions) -> bool {
    let version = match options.ip_version {
        IpVersion::Any => true,
        IpVersion::V4 => address.is_ipv4(),
        IpVersion::V6 => address.is_ipv6(),
    };
    let source = options
        .source_address
        .is_none_or(|source| source.is_ipv4() == address.is_ipv4());
    version && source
}

/// IPv6 and IPv4 by turns, IPv6 first; otherwise in the order given.
fn in_turn(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.len() < 2 {
        return addresses;
    }
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut turns = Vec::new();
    loop {
        match (six.next(), four.next()) {
            (None, None) => return turns,
            (a, b) => turns.extend(a.into_iter().chain(b)),
        }
    }
}

async fn race(
    addresses: Vec<IpAddr>,
    port: u16,
    source: Option<IpAddr>,
    trace: &Trace,
) -> Result<TcpStream, Failure> {
    if let [address] = *addresses {
        trace.remote_ip.set(Some(address));
        let connected = connect(address, port, source).await;
        return connected.map_err(|error| {
            note(address, port, &error, trace);
            Failure::new(kind_of(&error), trace.refused.borrow().join("; "))
        });
    }
    let mut last = None;
    let mut waiting = addresses.into_iter();
    let mut under_way = FuturesUnordered::new();
    loop {
        if let Some(address) = waiting.next() {
            trace.remote_ip.set(Some(address));
            under_way.push(async move { (address, connect(address, port, source).await) });
        }
        let ended = if waiting.len() == 0 {
            under_way.next().await
        } else {
            let head_start = std::pin::pin!(tokio::time::sleep(HEAD_START));
            match select(under_way.next(), head_start).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => continue,
            }
        };
        match ended {
            Some((address, Ok(stream))) => {
                trace.remote_ip.set(Some(address));
                return Ok(stream);
            }
            Some((address, Err(error))) => {
                note(address, port, &error, trace);
                last = Some(decisive(last, kind_of(&error)));
            }
            None => break,
        }
    }
    let kind = last.unwrap_or(ErrorKind::ConnectRefused);
    Err(Failure::new(kind, trace.refused.borrow().join("; ")))
}

/// So many addresses that could not be connected to are told one by one.
const MOST_REFUSED: usize = 16;

fn note(address: IpAddr, port: u16, error: &io::Error, trace: &Trace) {
    let place = SocketAddr::new(address, port);
    let mut refused = trace.refused.borrow_mut();
    if refused.len() < MOST_REFUSED {
        refused.push(format!("{place}: {}", plain(error)));
    }
}

/// Which kind tells more: the node's own fault with one family tells nothing where the other was tried too.
fn decisive(before: Option<ErrorKind>, kind: ErrorKind) -> ErrorKind {
    match before {
        Some(before) if kind == ErrorKind::InternalError => before,
        _ => kind,
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::TimedOut => ErrorKind::ConnectTimeout,
        io::ErrorKind::ConnectionReset => ErrorKind::ConnectionReset,
        // No free port, or no such source address: the node's own fault.
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => ErrorKind::InternalError,
        _ if is_exhausted(error) => ErrorKind::InternalError,
        _ => ErrorKind::ConnectRefused,
    }
}

/// The error as people know it, without the number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

async fn connect(address: IpAddr, port: u16, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match address {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some(source) = source {
        let named = |error: io::Error| {
            let words = format!("source_address {source}: {}", plain(&error));
            io::Error::new(error.kind(), words)
        };
        socket.bind(SocketAddr::new(source, 0)).map_err(named)?;
    }
    socket.connect(SocketAddr::new(address, port)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_says_tells_more_than_an_own_fault() {
        use ErrorKind::{ConnectRefused, ConnectTimeout, InternalError};
        for (kinds, told) in [
            (
                &[InternalError, ConnectRefused, InternalError][..],
                ConnectRefused,
            ),
            (&[ConnectRefused, ConnectTimeout], ConnectTimeout),
            (&[InternalError, InternalError], InternalError),
        ] {
            let last = kinds
                .iter()
                .fold(None, |last, kind| Some(decisive(last, *kind)));
            assert_eq!(last, Some(told));
        }
    }

    #[test]
    fn families_take_turns() {
        let addresses =
            ["1.1.1.1", "1.1.1.2", "::1", "1.1.1.3", "::2"].map(|text| text.parse().unwrap());
        let turns: Vec<_> = in_turn(addresses.into())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(turns, ["::1", "1.1.1.1", "::2", "1.1.1.2", "1.1.1.3"]);
    }
}
