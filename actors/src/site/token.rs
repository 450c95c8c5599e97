//! OAuth2 tokens: fetched before a check and outside of its time, and kept until they end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;
use sitewatch_config::{Body, BodyForm, Login, Oauth2, Secret, Site, SiteOptions};

use super::{
    attempt::Failure,
    probe::{Means, probe},
    tls_clients::{SiteClients, TlsClients},
};
use crate::model::ErrorKind;

/// A token is fetched anew so long before it ends.
const MARGIN: Duration = Duration::from_secs(30);

/// How long a token is kept that does not say when it ends (RFC 6749 leaves it open).
const UNSAID: Duration = Duration::from_secs(300);

/// No token is kept for longer.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Tokens, one for all sites that log in alike.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Oauth2, Token>>);

struct Token {
    text: Arc<str>,
    until: Instant,
}

/// What a token server answers (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<Seconds>,
}

/// What a token server says that gives none (RFC 6749, 5.2). Its further words are its own, and may repeat what it was sent.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// A number, which some servers write as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn duration(self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => seconds,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl Tokens {
    /// The token for a site that logs in by one.
    ///
    /// # Errors
    /// `send_error`: without a token the request can't be sent.
    pub(super) async fn get(
        &self,
        site: &Site,
        tls: &TlsClients,
    ) -> Result<Option<Arc<str>>, Failure> {
        let Some(Login::Oauth2(oauth2)) = &site.options.request.login else {
            return Ok(None);
        };
        if let Some(token) = self.lock().get(oauth2)
            && token.until > Instant::now()
        {
            return Ok(Some(Arc::clone(&token.text)));
        }
        let token = fetch(oauth2, &site.options, tls).await?;
        let text = Arc::clone(&token.text);
        let mut tokens = self.lock();
        let now = Instant::now();
        tokens.retain(|_, token| token.until > now);
        tokens.insert(oauth2.clone(), token);
        Ok(Some(text))
    }

    /// Lets the token go that a site refused, so that the next attempt comes with a new one.
    pub(super) fn let_go(&self, site: &Site, refused: &Arc<str>) {
        if let Some(Login::Oauth2(oauth2)) = &site.options.request.login {
            let mut tokens = self.lock();
            // Another site may have fetched a new one meanwhile.
            let is_it = |token: &Token| Arc::ptr_eq(&token.text, refused);
            if tokens.get(oauth2).is_some_and(is_it) {
                tokens.remove(oauth2);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Oauth2, Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(oauth2: &Oauth2, options: &SiteOptions, tls: &TlsClients) -> Result<Token, Failure> {
    let fail = |why: &str| {
        let host = oauth2.token_url.host_str().unwrap_or_default();
        Failure::new(
            ErrorKind::SendError,
            format!("no OAuth2 token from {host}: {why}"),
        )
    };
    let asked = Instant::now();
    let of_site = SiteClients::default();
    let means = Means::of(tls, &of_site);
    let attempt = probe(&token_site(oauth2, options), &means).await;
    if let Some(failure) = attempt.failure {
        return Err(match failure.kind {
            ErrorKind::InternalError => failure,
            kind => fail(&format!("{}: {}", kind.as_str(), failure.detail)),
        });
    }
    let status = attempt.status.unwrap_or_default();
    if !(200..300).contains(&status) {
        let refusal: Result<Refusal, _> = serde_json::from_slice(&attempt.body);
        let word = refusal.map_or(String::new(), |refusal| {
            let word: String = refusal.error.chars().take(40).collect();
            format!(": {word}")
        });
        return Err(fail(&format!("status {status}{word}")));
    }
    // What came may be half a token: its text is not told.
    let answer: Answer = serde_json::from_slice(&attempt.body)
        .map_err(|_| fail("the answer is not JSON with an access_token"))?;
    let token = answer.access_token;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fail("its token has characters that no header can carry"));
    }
    let life = answer.expires_in.and_then(Seconds::duration);
    let life = life.unwrap_or(UNSAID).min(LONGEST);
    Ok(Token {
        text: token.into(),
        until: asked + life.saturating_sub(MARGIN).max(life / 2),
    })
}

/// The token server as a site that is reached as the site itself is.
fn token_site(oauth2: &Oauth2, options: &SiteOptions) -> Site {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    if let Some(audience) = &oauth2.audience {
        form.append_pair("audience", audience);
    }
    let mut asked = SiteOptions::default();
    asked.schedule.timeout = options.schedule.timeout;
    asked.connection = options.connection.clone();
    asked.connection.tls.server_name = None;
    asked.request.method = "POST".to_owned();
    asked.request.follow_redirects = false;
    asked.request.headers = vec![("accept".to_owned(), Secret::new("application/json"))];
    asked.request.body = Some(Body {
        bytes: form.finish().into_bytes(),
        form: BodyForm::Form,
        is_private: true,
    });
    // Every server must take the credentials in this way (RFC 6749, 2.3.1).
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    asked.request.login = Some(Login::BasicAuth {
        username: Secret::new(encode(&oauth2.client_id)),
        password: Secret::new(encode(oauth2.client_secret.reveal())),
    });
    asked.expect.max_body_bytes = 64 * 1024;
    asked.capture_bytes = 64 * 1024;
    Site::of("token", oauth2.token_url.clone(), asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_let_go_and_a_newer_one_is_not() {
        let oauth2 = Oauth2 {
            token_url: sitewatch_config::Url::parse("https://a/").unwrap(),
            client_id: "me".to_owned(),
            client_secret: Secret::new("s"),
            scopes: Vec::new(),
            audience: None,
        };
        let mut options = SiteOptions::default();
        options.request.login = Some(Login::Oauth2(oauth2.clone()));
        let site = Site::with_options("a", "https://b/", options);
        let tokens = Tokens::default();
        let (old, new): (Arc<str>, Arc<str>) = ("T".into(), "T".into());
        let token = Token {
            text: Arc::clone(&new),
            until: Instant::now() + LONGEST,
        };
        tokens.lock().insert(oauth2, token);
        tokens.let_go(&site, &old);
        assert_eq!(tokens.lock().len(), 1, "another site has fetched it since");
        tokens.let_go(&site, &new);
        assert!(tokens.lock().is_empty());
    }
}
