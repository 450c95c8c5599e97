//! The servers that a database URL names: one, or several to fail over between, as libpq writes them.

use std::net::{IpAddr, Ipv6Addr};

use percent_encoding::percent_decode_str;

/// One server of a database URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// As it stands in a URL: a name, an address (version 6 in brackets) or the encoded folder of a socket.
    pub(crate) host: String,
    /// 5432 if `None`.
    pub(crate) port: Option<u16>,
    /// Where to connect instead of asking for the name, which stays the one in the certificate.
    pub(crate) address: Option<IpAddr>,
}

impl Server {
    /// Host and port, as in a URL.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// For people: a socket without its encoding, and always with a port.
    pub(crate) fn name(&self) -> String {
        let host = percent_decode_str(&self.host).decode_utf8_lossy();
        format!("{host}:{}", self.port.unwrap_or(5432))
    }
}

/// Where hosts may be written: before the path, or as parameters, which win, as in libpq.
#[derive(Default)]
pub(crate) struct Written<'a> {
    /// What stands between the login and the path.
    pub(crate) authority: &'a str,
    /// The parameters `host`, `hostaddr` and `port`, decoded.
    pub(crate) host: Option<String>,
    pub(crate) hostaddr: Option<String>,
    pub(crate) port: Option<String>,
}

impl Written<'_> {
    /// All servers, in their order; none if no host is written.
    ///
    /// # Errors
    /// What is wrong with which host. The text quotes hosts and ports only.
    pub(crate) fn servers(&self) -> Result<Vec<Server>, String> {
        let mut servers = match &self.host {
            Some(hosts) => list(hosts, from_parameter)?,
            None if self.authority.is_empty() => Vec::new(),
            None => list(self.authority, from_authority)?,
        };
        if let Some(addresses) = &self.hostaddr {
            let addresses = list(addresses, address)?;
            if servers.is_empty() {
                servers = addresses.iter().map(|address| bare(*address)).collect();
            }
            let addresses = pair(addresses, "addresses in hostaddr", servers.len())?;
            for (server, address) in servers.iter_mut().zip(addresses) {
                server.address = Some(address);
            }
        }
        if let Some(ports) = &self.port {
            let mut ports = list(ports, port)?;
            if let [one] = ports[..] {
                ports = vec![one; servers.len()];
            }
            let ports = pair(ports, "ports", servers.len())?;
            for (server, port) in servers.iter_mut().zip(ports) {
                server.port = Some(port);
            }
        }
        Ok(servers)
    }
}

fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let parts: Vec<_> = text.split(',').collect();
    let number = parts.len();
    let one = |(n, part): (usize, &&str)| {
        read(part).map_err(|why| {
            if number == 1 {
                why
            } else {
                format!("{why} as number {} of {number}", n + 1)
            }
        })
    };
    parts.iter().enumerate().map(one).collect()
}

fn pair<T>(values: Vec<T>, what: &str, servers: usize) -> Result<Vec<T>, String> {
    if values.len() == servers {
        return Ok(values);
    }
    Err(format!(
        "as many {what} as hosts (now {} for {servers})",
        values.len()
    ))
}

fn bare(address: IpAddr) -> Server {
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    Server {
        host,
        port: None,
        address: None,
    }
}

/// `name`, `name:port`, `[address]`, `[address]:port`.
fn from_authority(text: &str) -> Result<Server, String> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => {
            let (address, rest) = inner
                .split_once(']')
                .ok_or_else(|| "an address that ends with ]".to_owned())?;
            (v6(address)?, rest)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (name(&text[..end])?, &text[end..])
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(written) => Some(port(written)?),
        None if rest.is_empty() => None,
        None => return Err("a colon and a port after an address in brackets".to_owned()),
    };
    Ok(Server {
        host,
        port,
        address: None,
    })
}

/// As [`from_authority`], without a port: an address of version 6 has no brackets, a socket no encoding.
fn from_parameter(text: &str) -> Result<Server, String> {
    let host = if text.starts_with('/') {
        let unsafe_in_host = percent_encoding::NON_ALPHANUMERIC;
        percent_encoding::utf8_percent_encode(text, unsafe_in_host).to_string()
    } else if text.contains(':') {
        v6(text)?
    } else {
        name(text)?
    };
    Ok(Server {
        host,
        port: None,
        address: None,
    })
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a host".to_owned());
    }
    let decoded = percent_decode_str(text).decode_utf8();
    match decoded {
        Ok(path) if path.starts_with('/') => Ok(text.to_owned()),
        Ok(name)
            if name
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_')) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("a host of letters, digits, dots and hyphens".to_owned()),
    }
}

fn v6(text: &str) -> Result<String, String> {
    let address: Result<Ipv6Addr, _> = text.parse();
    address
        .map(|address| format!("[{address}]"))
        .map_err(|_| "an IPv6 address in brackets, such as [::1]".to_owned())
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "an IP address in hostaddr".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("a port from 1 to 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn authority(text: &str) -> Result<Vec<String>, String> {
        let written = Written {
            authority: text,
            ..Written::default()
        };
        let servers = written.servers()?;
        Ok(servers.iter().map(Server::name).collect())
    }

    #[test]
    fn several_hosts_keep_their_order_and_ports() {
        assert_eq!(
            authority("db1:5433,db2,[::1]:6000,%2Frun%2Fpg").unwrap(),
            ["db1:5433", "db2:5432", "[::1]:6000", "/run/pg:5432"]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("db1,,db3", "a host as number 2 of 3"),
            ("db1,", "a host as number 2 of 2"),
            ("db1:0", "a port from 1 to 65535"),
            (
                "db1:5432,db2:70000",
                "a port from 1 to 65535 as number 2 of 2",
            ),
            ("[::1", "an address that ends with ]"),
            ("[::g]", "an IPv6 address in brackets, such as [::1]"),
            (
                "[::1]5432",
                "a colon and a port after an address in brackets",
            ),
            ("d b", "a host of letters, digits, dots and hyphens"),
        ] {
            assert_eq!(authority(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn parameters_win_and_pair_up() {
        let some = |text: &str| Some(text.to_owned());
        let written = Written {
            authority: "ignored",
            host: some("db1,::1,/run/pg"),
            hostaddr: some("127.0.0.1,127.0.0.2,127.0.0.3"),
            port: some("1,2,3"),
        };
        let servers = written.servers().unwrap();
        let names: Vec<_> = servers.iter().map(Server::name).collect();
        assert_eq!(names, ["db1:1", "[::1]:2", "/run/pg:3"]);
        assert_eq!(servers[1].address, "127.0.0.2".parse().ok());
        let uneven = Written {
            authority: "db1,db2,db3",
            port: some("1,2"),
            ..Written::default()
        };
        assert_eq!(
            uneven.servers().unwrap_err(),
            "as many ports as hosts (now 2 for 3)"
        );
        let one_port = Written {
            port: some("7"),
            ..uneven
        };
        assert!(
            one_port
                .servers()
                .unwrap()
                .iter()
                .all(|server| server.port == Some(7))
        );
    }

    proptest! {
        #[test]
        fn what_is_read_can_be_written_and_read_again(
            hosts in prop::collection::vec(("[a-z][a-z0-9.-]{0,8}", prop::option::of(1u16..)), 1..5)
        ) {
            let text = hosts
                .iter()
                .map(|(host, port)| port.map_or(host.clone(), |port| format!("{host}:{port}")))
                .collect::<Vec<_>>()
                .join(",");
            let written = Written { authority: &text, ..Written::default() };
            let again = written.servers().unwrap().iter().map(Server::authority).collect::<Vec<_>>().join(",");
            prop_assert_eq!(again, text);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = authority(&text);
        }
    }
}
