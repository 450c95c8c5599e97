//! How a site is reached.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::fields::Fields;
use crate::item::Item;
use crate::mask::quote;
use crate::proxy::{self, NoProxy, Proxy};
use crate::tls::{self, TlsOptions};

/// How a site is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ConnectionOptions {
    /// Which of its addresses are tried.
    pub ip_version: IpVersion,
    /// Who is asked for them; the system's servers if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<SocketAddr>,
    /// The address to connect from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// The proxy to go through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// What is reached without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<NoProxy>,
    /// Encryption.
    #[serde(skip_serializing_if = "TlsOptions::is_default")]
    pub tls: TlsOptions,
    /// Where the node may connect to.
    #[serde(flatten)]
    pub guard: GuardOptions,
}

/// Which addresses are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum IpVersion {
    /// All, IPv6 first, one after the other a little later (RFC 8305).
    #[default]
    #[serde(rename = "any")]
    Any,
    /// IPv4 only.
    #[serde(rename = "4")]
    V4,
    /// IPv6 only.
    #[serde(rename = "6")]
    V6,
}

/// Where the node may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct GuardOptions {
    /// Every address, public or not, but for link-local ones and those of cloud metadata.
    pub allow_private: bool,
    /// Networks that are allowed though they are not public. Link-local and metadata addresses are allowed only by a network
    /// that holds nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_networks: Vec<IpNet>,
    /// Networks that are refused, whatever else is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_networks: Vec<IpNet>,
}

pub(crate) fn read(fields: &Fields<'_>, base: &ConnectionOptions) -> ConnectionOptions {
    let networks = |name, base: &Vec<IpNet>| {
        fields
            .item(name)
            .and_then(|item| networks(&item))
            .unwrap_or_else(|| base.clone())
    };
    let proxy = match fields.item("proxy") {
        Some(item) => proxy::read(&item),
        None => base.proxy.clone(),
    };
    ConnectionOptions {
        ip_version: fields
            .item("ip_version")
            .and_then(|item| ip_version(&item))
            .unwrap_or(base.ip_version),
        dns_servers: fields
            .item("dns_servers")
            .and_then(|item| dns_servers(&item))
            .unwrap_or_else(|| base.dns_servers.clone()),
        source_address: fields
            .item("source_address")
            .and_then(|item| {
                let expected = "an IP address of this machine";
                let text = item.text(expected)?;
                text.parse().ok().or_else(|| item.wrong(expected))
            })
            .or(base.source_address),
        proxy,
        no_proxy: fields
            .item("no_proxy")
            .and_then(|item| proxy::no_proxy(&item))
            .unwrap_or_else(|| base.no_proxy.clone()),
        tls: tls::read(fields, &base.tls),
        guard: GuardOptions {
            allow_private: fields
                .item("allow_private")
                .and_then(|item| item.flag())
                .unwrap_or(base.guard.allow_private),
            allow_networks: networks("allow_networks", &base.guard.allow_networks),
            deny_networks: networks("deny_networks", &base.guard.deny_networks),
        },
    }
}

fn ip_version(item: &Item<'_>) -> Option<IpVersion> {
    match item.scalar().as_deref() {
        Some("any") => Some(IpVersion::Any),
        Some("4") => Some(IpVersion::V4),
        Some("6") => Some(IpVersion::V6),
        _ => item.wrong("one of any, 4, 6"),
    }
}

fn dns_servers(item: &Item<'_>) -> Option<Vec<SocketAddr>> {
    const EXPECTED: &str = "addresses of DNS servers, such as 9.9.9.9 or 127.0.0.1:5353";
    let parse = |text: &String| {
        let plain = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53));
        plain.or_else(|_| text.parse()).ok()
    };
    each(item, EXPECTED, parse)
}

fn networks(item: &Item<'_>) -> Option<Vec<IpNet>> {
    const EXPECTED: &str = "networks such as 10.1.0.0/16, or addresses";
    each(item, EXPECTED, |text| network(text))
}

/// Every text of a list, read; the first that can't be is told.
fn each<T>(item: &Item<'_>, expected: &str, read: impl Fn(&String) -> Option<T>) -> Option<Vec<T>> {
    let read = |text: &String| read(text).or_else(|| item.found(quote(text), expected));
    item.texts(expected)?.iter().map(read).collect()
}

/// A network, or a single address.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let single = |ip: IpAddr| IpNet::from(ip);
    text.parse().ok().or_else(|| text.parse().ok().map(single))
}
