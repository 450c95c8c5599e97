//! The HTTP proxy to go through, and what is reached without it.

use std::fmt;
use std::net::IpAddr;

use config::ValueKind;
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use url::Url;

use crate::connection::network;
use crate::item::Item;
use crate::login::user_info;
use crate::mask::MASK;
use crate::reference;
use crate::secret::Secret;

/// An HTTP proxy that connects further on CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Where it is.
    pub host: String,
    /// At which port.
    pub port: u16,
    /// Name and password, where it asks for them.
    pub login: Option<(Secret, Secret)>,
}

impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mask, at) = match self.login {
            Some(_) => (MASK, "@"),
            None => ("", ""),
        };
        let (host, port) = (&self.host, self.port);
        serializer.collect_str(&format_args!("http://{mask}{at}{host}:{port}"))
    }
}

/// What is reached without the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NoProxy {
    /// Everything.
    All,
    /// A host, by its name.
    Host(String),
    /// A domain and all below it; kept with its leading dot.
    Domain(String),
    /// A network, for hosts that are written as addresses.
    Network(IpNet),
}

impl NoProxy {
    /// Whether `host`, a name or an address without brackets, is meant.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::All => true,
            Self::Host(name) => name.eq_ignore_ascii_case(host),
            Self::Domain(domain) => {
                let host = host.to_ascii_lowercase();
                host.ends_with(domain.as_str()) || host == domain[1..]
            }
            Self::Network(network) => host
                .parse::<IpAddr>()
                .is_ok_and(|address| network.contains(&address)),
        }
    }
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Host(text) | Self::Domain(text) => f.write_str(text),
            Self::Network(network) => write!(f, "{network}"),
        }
    }
}

impl Serialize for NoProxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A proxy; none for `off`, and after a problem.
pub(crate) fn read(item: &Item<'_>) -> Option<Proxy> {
    const EXPECTED: &str = "http://user:password@host:port, or off";
    if matches!(&item.value.kind, ValueKind::String(text) if text.trim() == "off")
        || item.value.kind == ValueKind::Boolean(false)
    {
        return None;
    }
    let text = reference::follow(item, EXPECTED)?.text;
    let url = Url::parse(&text).ok().filter(|url| url.scheme() == "http");
    let Some(url) = url else {
        return item.wrong(EXPECTED);
    };
    let (Some(host), true) = (url.host_str(), matches!(url.path(), "" | "/")) else {
        return item.wrong(EXPECTED);
    };
    Some(Proxy {
        host: host.trim_matches(['[', ']']).to_owned(),

        port: url.port_or_known_default().unwrap_or(80),
        login: user_info(&url),
    })
}

pub(crate) fn no_proxy(item: &Item<'_>) -> Option<Vec<NoProxy>> {
    let texts = item.texts("hosts, domains such as .example.org, networks, or *")?;
    let read = |text: &String| match (text.as_str(), network(text)) {
        ("*", _) => NoProxy::All,
        (_, Some(network)) => NoProxy::Network(network),
        (text, None) => match text.strip_prefix("*.").or(text.strip_prefix('.')) {
            Some(domain) => NoProxy::Domain(format!(".{}", domain.to_ascii_lowercase())),
            None => NoProxy::Host(text.to_ascii_lowercase()),
        },
    };
    Some(texts.iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_without_a_proxy_is_recognised() {
        let domain = NoProxy::Domain(".example.org".to_owned());
        assert!(domain.covers("www.Example.org") && domain.covers("example.org"));
        assert!(!domain.covers("badexample.org"));
        let network = NoProxy::Network("10.0.0.0/8".parse().unwrap());
        assert!(network.covers("10.1.2.3") && !network.covers("11.1.2.3"));
        assert!(!network.covers("ten.example.org"));
    }
}
