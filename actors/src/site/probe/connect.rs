//! The way to a site: name, address, proxy, TLS.

use std::{net::IpAddr, rc::Rc};

use sitewatch_config::{HttpVersion, Proxy, SiteOptions};
use tokio::net::TcpStream;
use url::Host;

use super::{
    super::attempt::Failure,
    Means,
    dial::{dial, refuse},
    guard,
    link::Link,
    proxy,
    redirect::Ask,
    resolve::resolve,
    tls,
    trace::Trace,
};
use crate::model::{ErrorKind, Reached};

/// Opens the connection for one hop; tells whether HTTP/2 is spoken on it.
pub(super) async fn connect(
    options: &SiteOptions,
    means: &Means<'_>,
    ask: &Ask,
    trace: &Rc<Trace>,
) -> Result<(Link, bool), Failure> {
    let url = &ask.url;
    let (name, literal) = match url.host() {
        Some(Host::Domain(name)) => (name.to_owned(), None),
        Some(Host::Ipv4(address)) => (address.to_string(), Some(IpAddr::V4(address))),
        Some(Host::Ipv6(address)) => (address.to_string(), Some(IpAddr::V6(address))),
        None => {
            return Err(Failure::new(
                ErrorKind::SendError,
                "there is no host in the URL",
            ));
        }
    };
    let target = Target {
        port: url.port_or_known_default().unwrap_or(80),
        // Also after a redirect, unless it leads to another host.
        literal: literal.or(means
            .pinned
            .and_then(|(host, address)| (host == name).then_some(address))),
        name: &name,
    };
    let connection = &options.connection;
    let direct = |_: &&Proxy| !connection.no_proxy.iter().any(|rule| rule.covers(&name));
    let tcp = match connection.proxy.as_ref().filter(direct) {
        None => target.reach(options, trace).await?,
        Some(proxy) => target.reach_through(proxy, options, trace).await?,
    };
    let version = options.request.http_version;
    if url.scheme() != "https" {
        return Ok((
            Link::plain(tcp, Rc::clone(trace)),
            version == HttpVersion::Two,
        ));
    }
    trace.enter(Reached::Tls);
    let (settings, foreign) = (&connection.tls, !ask.at_own_origin);
    let client = means
        .of_site
        .client(means.tls, settings, version, foreign)
        .map_err(|error| Failure::new(ErrorKind::InternalError, error.to_string()))?;
    // Another name is meant for the site's own server only.
    let meant = settings.server_name.as_deref().filter(|_| !foreign);
    let server = meant.unwrap_or(&name);
    let stream = tls::encrypt(server, tcp, client, trace).await?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(tls::H2);
    if version == HttpVersion::Two && !is_h2 {
        return Err(Failure::new(
            ErrorKind::ProtocolError,
            "the server does not offer HTTP/2",
        ));
    }
    Ok((Link::encrypted(stream, Rc::clone(trace)), is_h2))
}

/// Where a hop goes.
struct Target<'a> {
    name: &'a str,
    port: u16,
    /// Its address, if it is known without DNS.
    literal: Option<IpAddr>,
}

impl Target<'_> {
    async fn reach(&self, options: &SiteOptions, trace: &Trace) -> Result<TcpStream, Failure> {
        let connection = &options.connection;
        let addresses = match self.literal {
            Some(address) => {
                trace.skip_to(Reached::Connect);
                vec![address]
            }
            None => {
                let addresses = resolve(self.name, connection).await?;
                trace.enter(Reached::Connect);
                addresses
            }
        };
        dial(&addresses, self.port, connection, true, trace).await
    }

    /// The proxy resolves the name: what it connects to, only it can guard.
    async fn reach_through(
        &self,
        to: &Proxy,
        options: &SiteOptions,
        trace: &Trace,
    ) -> Result<TcpStream, Failure> {
        let connection = &options.connection;
        if let Some(address) = self.literal
            && let Some(why) = refuse(address, connection)?
        {
            return Err(guard::blocked(&[why]));
        }
        trace.skip_to(Reached::Connect);
        let addresses = match to.host.parse() {
            Ok(address) => vec![address],
            Err(_) => resolve(&to.host, connection).await?,
        };
        let place = format!("the proxy {}:{} can't be reached", to.host, to.port);
        let named = |failure: Failure| Failure {
            detail: format!("{place}: {}", failure.detail),
            ..failure
        };
        let mut tcp = dial(&addresses, to.port, connection, false, trace)
            .await
            .map_err(named)?;
        proxy::tunnel(&mut tcp, self.name, self.port, to).await?;
        Ok(tcp)
    }
}
