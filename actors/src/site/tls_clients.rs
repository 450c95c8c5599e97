//! TLS settings of sites as clients, one for all sites that have the same.

use std::{
    cell::OnceCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sitewatch_config::{HttpVersion, TlsOptions};

use super::verifiers::{AnyCertificate, Remembering};
use crate::tls::{TlsError, provider, roots_from_pem, system_roots};

/// What may differ between clients. The client certificate is left out where a redirect has led to another origin.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    options: TlsOptions,
    http_version: HttpVersion,
}

/// Makes clients, and finds those that some site has. The system's certificate store is read once.
pub(super) struct TlsClients {
    system: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    clients: Mutex<HashMap<Key, Weak<ClientConfig>>>,
}

/// The clients of one site, for as long as it lives.
#[derive(Default)]
pub(super) struct SiteClients {
    own: OnceCell<Arc<ClientConfig>>,
    /// Where a redirect has led to another origin.
    foreign: OnceCell<Arc<ClientConfig>>,
}

impl SiteClients {
    /// The client for what the site itself, or another origin, is shown.
    ///
    /// # Errors
    /// As [`TlsClients::client`].
    pub(super) fn client(
        &self,
        all: &TlsClients,
        options: &TlsOptions,
        http_version: HttpVersion,
        is_foreign: bool,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let place = if is_foreign { &self.foreign } else { &self.own };
        if let Some(client) = place.get() {
            return Ok(Arc::clone(client));
        }
        // What is meant for one origin is not shown to another.
        let client = match &options.identity {
            Some(_) if is_foreign => {
                let without = TlsOptions {
                    identity: None,
                    ..options.clone()
                };
                all.client(&without, http_version)?
            }
            _ => all.client(options, http_version)?,
        };
        Ok(Arc::clone(place.get_or_init(|| client)))
    }
}

impl TlsClients {
    /// No clients yet. Roots of the system that can't be read are left out, as browsers do.
    pub(super) fn new() -> Self {
        Self {
            system: Arc::new(system_roots()),
            provider: provider(),
            clients: Mutex::default(),
        }
    }

    /// The client for these settings.
    ///
    /// # Errors
    /// If a certificate or key is not one. Settings have looked at their form only.
    pub(super) fn client(
        &self,
        options: &TlsOptions,
        http_version: HttpVersion,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key {
            // The name is given with each handshake.
            options: TlsOptions {
                server_name: None,
                ..options.clone()
            },
            http_version,
        };
        if let Some(client) = clients.get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = Arc::new(self.build(&key)?);
        // Those that no site has any more went with a reload.
        clients.retain(|_, client| client.strong_count() > 0);
        clients.insert(key, Arc::downgrade(&client));
        Ok(client)
    }

    fn build(&self, key: &Key) -> Result<ClientConfig, TlsError> {
        let options = &key.options;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?;
        let builder = if options.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(
                    &self.provider,
                ))))
        } else {
            let roots = match &options.ca {
                None => Arc::clone(&self.system),
                Some(file) => Arc::new(roots_from_pem(&file.path, &file.bytes)?),
            };
            let verifier = Remembering::over(roots, &self.provider)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut client = match &options.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let file = |path: &std::path::Path, reason: String| TlsError::File {
                    path: path.display().to_string(),
                    reason,
                };
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(&identity.cert.bytes).collect();
                let chain = chain.map_err(|error| file(&identity.cert.path, error.to_string()))?;
                let key = PrivateKeyDer::from_pem_slice(&identity.key.bytes)
                    .map_err(|error| file(&identity.key.path, error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| file(&identity.key.path, error.to_string()))?
            }
        };
        client.alpn_protocols = match key.http_version {
            HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpVersion::One => vec![b"http/1.1".to_vec()],
            HttpVersion::Two => vec![b"h2".to_vec()],
        };
        // A visitor who comes for the first time has no session to resume, and a session hides a new certificate.
        client.resumption = Resumption::disabled();
        Ok(client)
    }
}

impl Default for TlsClients {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(site: &SiteClients, all: &TlsClients, skip_verify: bool) -> Arc<ClientConfig> {
        let options = TlsOptions {
            insecure_skip_verify: skip_verify,
            ..TlsOptions::default()
        };
        site.client(all, &options, HttpVersion::Auto, false)
            .unwrap()
    }

    /// How many clients there are that a site has.
    fn alive(all: &TlsClients) -> usize {
        let clients = all.clients.lock().unwrap();
        let alive = clients.values().filter(|client| client.strong_count() > 0);
        alive.count()
    }

    #[test]
    fn sites_with_the_same_settings_share_a_client_for_as_long_as_one_of_them_lives() {
        let all = TlsClients::new();
        let sites: [SiteClients; 4] = std::array::from_fn(|_| SiteClients::default());
        // By turns: neither kind takes the other's place.
        let clients: Vec<_> = (0..4)
            .map(|n| client(&sites[n], &all, n % 2 == 0))
            .collect();
        assert!(Arc::ptr_eq(&clients[0], &clients[2]) && Arc::ptr_eq(&clients[1], &clients[3]));
        assert!(Arc::ptr_eq(&clients[0], &client(&sites[0], &all, true)));
        assert_eq!(alive(&all), 2);
        drop(clients);
        assert_eq!(alive(&all), 2, "between checks they are kept");
        drop(sites);
        assert_eq!(alive(&all), 0);
        client(&SiteClients::default(), &all, false);
        assert_eq!(
            all.clients.lock().unwrap().len(),
            1,
            "the others are forgotten"
        );
    }

    #[test]
    fn the_store_of_the_system_is_read_once() {
        let all = TlsClients::new();
        let before = Arc::strong_count(&all.system);
        let (one, two) = (SiteClients::default(), SiteClients::default());
        let options = TlsOptions::default();
        for (site, version) in [(&one, HttpVersion::Auto), (&two, HttpVersion::One)] {
            site.client(&all, &options, version, false).unwrap();
        }
        // Each verifier holds the one store; another one would not be counted here.
        assert_eq!(Arc::strong_count(&all.system), before + 2);
    }
}
