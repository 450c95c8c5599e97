//! From a name to addresses, asked anew for each check.
//!
//! Not by the C library: its look-ups block a thread each, so that names which do not resolve would hold up the checks of
//! others, and they can't tell why there is no answer. The system's servers, search domains and hosts file are used.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
};
use sitewatch_config::{ConnectionOptions, IpVersion};

use super::{super::attempt::Failure, exhausted::is_exhausted};
use crate::model::ErrorKind;

/// Questions that one worker may have open at one server.
const MAX_ACTIVE: usize = 10_000;

type Key = (Vec<SocketAddr>, IpVersion);

/// How long a resolver is used: so soon a change of the system's configuration is noticed.
const LIFE: Duration = Duration::from_secs(60);

thread_local! {
    /// One resolver for each set of servers, with its birth: its sockets belong to this thread.
    static RESOLVERS: RefCell<HashMap<Key, (Rc<TokioResolver>, Instant)>> = RefCell::default();
}

/// The addresses of `host`, which is a name, in the order in which DNS gives them.
///
/// # Errors
/// `dns_error` or `dns_timeout`, with the reason.
pub(super) async fn resolve(
    host: &str,
    options: &ConnectionOptions,
) -> Result<Vec<IpAddr>, Failure> {
    let fail = |kind, why: &dyn std::fmt::Display| Failure::new(kind, format!("{host}: {why}"));
    let look_up = async |ip_version| {
        let resolver = resolver(&options.dns_servers, ip_version)?;
        resolver.lookup_ip(host).await
    };
    let mut looked_up = look_up(options.ip_version).await;
    // Without an IPv6 address that is all that is told, also where there was no answer about IPv4.
    if let (IpVersion::Any, Err(NetError::Dns(DnsError::NoRecordsFound(none)))) =
        (options.ip_version, &looked_up)
        && none.response_code == ResponseCode::NoError
    {
        looked_up = look_up(IpVersion::V4).await;
    }
    let looked_up = match looked_up {
        Ok(found) => found,
        Err(NetError::Timeout) => {
            return Err(fail(ErrorKind::DnsTimeout, &"no DNS server answers"));
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            return Err(fail(ErrorKind::DnsError, &in_words(none.response_code)));
        }
        Err(NetError::Dns(DnsError::ResponseCode(code))) => {
            return Err(fail(ErrorKind::DnsError, &in_words(code)));
        }
        Err(error) if is_own(&error) => return Err(fail(ErrorKind::InternalError, &error)),
        Err(error) => return Err(fail(ErrorKind::DnsError, &error)),
    };
    let addresses: Vec<IpAddr> = looked_up.iter().collect();
    if addresses.is_empty() {
        return Err(fail(
            ErrorKind::DnsError,
            &"the name exists, but has no address",
        ));
    }
    Ok(addresses)
}

/// Whether the fault is the node's own, not one of DNS.
fn is_own(error: &NetError) -> bool {
    match error {
        NetError::Busy => true,
        NetError::Io(error) => is_exhausted(error),
        _ => false,
    }
}

fn in_words(code: ResponseCode) -> String {
    match code {
        ResponseCode::NXDomain => "there is no such name (NXDOMAIN)".to_owned(),
        ResponseCode::ServFail => "the DNS server failed (SERVFAIL)".to_owned(),
        ResponseCode::Refused => "the DNS server refuses to answer (REFUSED)".to_owned(),
        ResponseCode::NoError => "the name exists, but has no address".to_owned(),
        other => format!("the DNS server answers: {other}"),
    }
}

fn resolver(servers: &[SocketAddr], ip_version: IpVersion) -> Result<Rc<TokioResolver>, NetError> {
    RESOLVERS.with_borrow_mut(|resolvers| {
        let key = (servers.to_owned(), ip_version);
        if let Some((resolver, born)) = resolvers.get(&key)
            && born.elapsed() < LIFE
        {
            return Ok(Rc::clone(resolver));
        }
        let resolver = Rc::new(build(&key)?);
        // Those that no site asks for any more go too.
        resolvers.retain(|_, (_, born)| born.elapsed() < LIFE);
        resolvers.insert(key, (Rc::clone(&resolver), Instant::now()));
        Ok(resolver)
    })
}

fn build((servers, ip_version): &Key) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        Resolver::builder_tokio()?
    } else {
        let server = |address: &SocketAddr| {
            let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = address.port();
            }
            NameServerConfig::new(address.ip(), true, connections.into())
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.max_active_requests = MAX_ACTIVE;
    options.ip_strategy = match ip_version {
        IpVersion::Any => LookupIpStrategy::Ipv6AndIpv4,
        IpVersion::V4 => LookupIpStrategy::Ipv4Only,
        IpVersion::V6 => LookupIpStrategy::Ipv6Only,
    };
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_has_no_more_of_is_no_fault_of_dns() {
        let no_more_files = std::io::Error::from_raw_os_error(24);
        let refused = std::io::Error::from_raw_os_error(111);
        assert!(is_own(&NetError::Busy) && is_own(&NetError::from(no_more_files)));
        assert!(!is_own(&NetError::from(refused)) && !is_own(&NetError::Timeout));
    }
}
