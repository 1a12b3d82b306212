//! What a registry wants to know before it answers: nothing, a password, or a
//! token that somebody else gives out.

use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;

use crate::OciError;
use crate::credentials::Login;
use crate::manifest::senseless;
use crate::reference::is_loopback;
use crate::registry::{Access, body, unreachable};

/// The most that who gives out tokens may say.
const MOST_SAID: u64 = 1 << 20;

/// What a registry said in place of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A password.
    Basic,
    /// A token from `realm`, for `service`.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The challenge in an answer's headers; a token is better than a password.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let all: Vec<Self> = texts
            .flat_map(|text| ChallengeParser::new(text).map_while(Result::ok))
            .filter_map(|challenge| Self::of(&challenge))
            .collect();
        let bearer = |challenge: &&Self| matches!(challenge, Self::Bearer { .. });
        let index = all.iter().position(|challenge| bearer(&challenge)).unwrap_or(0);
        all.into_iter().nth(index)
    }

    fn of(challenge: &ChallengeRef<'_>) -> Option<Self> {
        if challenge.scheme.eq_ignore_ascii_case("Basic") {
            return Some(Self::Basic);
        }
        if !challenge.scheme.eq_ignore_ascii_case("Bearer") {
            return None;
        }
        let find = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        Some(Self::Bearer { realm: find("realm")?, service: find("service") })
    }
}

/// An access that somebody asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) registry: &'a str,
    /// None, where somebody only wants to know whether he may log in.
    pub(crate) repository: Option<&'a str>,
    pub(crate) access: Access,
    /// Whether nobody on the way may read along.
    pub(crate) encrypted: bool,
}

impl Scope<'_> {
    fn words(&self) -> String {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let words = |repository| format!("repository:{repository}:{actions}");
        self.repository.map(words).unwrap_or_default()
    }

    pub(crate) fn unauthorized(&self, known: bool) -> OciError {
        let repository = self.repository.unwrap_or("all that it has").to_owned();
        OciError::Unauthorized { registry: self.registry.to_owned(), repository, known }
    }
}

/// Answers a challenge with what belongs into the header `Authorization`.
pub(crate) async fn answer(
    http: &Client,
    challenge: &Challenge,
    login: Option<&Login>,
    scope: Scope<'_>,
) -> Result<HeaderValue, OciError> {
    let text = match (challenge, login) {
        (Challenge::Basic, Some(Login::Password(user, password))) => {
            use base64::Engine as _;
            let pair = format!("{user}:{password}");
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        }
        (Challenge::Basic, _) => return Err(scope.unauthorized(login.is_some())),
        (Challenge::Bearer { realm, service }, login) => {
            let request = token_request(http, realm, service.as_deref(), login, scope)?;
            format!("Bearer {}", token(request, login, scope).await?)
        }
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| senseless("the token of the registry", &"it is no text for a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn token_request(
    http: &Client,
    realm: &str,
    service: Option<&str>,
    login: Option<&Login>,
    scope: Scope<'_>,
) -> Result<RequestBuilder, OciError> {
    let what = "the place where the registry gives out tokens";
    let mut url = Url::parse(realm).map_err(|e| senseless(what, &e))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let safe = url.scheme() == "https" || !scope.encrypted || is_loopback(&host);
    if !safe || !matches!(url.scheme(), "http" | "https") {
        return Err(senseless(what, &"it is not encrypted, but the registry is"));
    }
    let words = scope.words();
    let pairs = [("service", service.unwrap_or_default()), ("scope", &words)];
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    if let Some(Login::Identity(token)) = login {
        let more =
            [("grant_type", "refresh_token"), ("client_id", "lampyr"), ("refresh_token", token)];
        let mut form = Url::parse("http://form").map_err(|e| senseless(what, &e))?;
        form.query_pairs_mut().extend_pairs(pairs.chain(more));
        let form = form.query().unwrap_or_default().to_owned();
        let kind = "application/x-www-form-urlencoded";
        return Ok(http.post(url).header("Content-Type", kind).body(form));
    }
    url.query_pairs_mut().extend_pairs(pairs);
    let request = http.get(url);
    Ok(match login {
        Some(Login::Password(user, password)) => request.basic_auth(user, Some(password)),
        _ => request,
    })
}

async fn token(
    request: RequestBuilder,
    login: Option<&Login>,
    scope: Scope<'_>,
) -> Result<String, OciError> {
    #[derive(Deserialize)]
    struct Told {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer = request.send().await.map_err(|e| unreachable(scope.registry, &e))?;
    let status = answer.status().as_u16();
    let bytes = body(answer, MOST_SAID, scope.registry).await?;
    match status {
        200 => {}
        401 | 403 => return Err(scope.unauthorized(login.is_some())),
        429 => return Err(OciError::TooMany { registry: scope.registry.to_owned(), after: None }),
        status => {
            let (registry, said) = (scope.registry.to_owned(), String::new());
            return Err(OciError::Refused { registry, what: "give a token", status, said });
        }
    }
    let what = "the token of the registry";
    let told: Told = serde_json::from_slice(&bytes).map_err(|e| senseless(what, &e))?;
    let token = told.token.or(told.access_token).filter(|token| !token.is_empty());
    token.ok_or_else(|| senseless(what, &"there is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::read(&headers)
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let bearer = r#"Bearer realm="https://auth.example/token",service="reg",scope="x""#;
        let realm = "https://auth.example/token".to_owned();
        let wanted = Challenge::Bearer { realm, service: Some("reg".to_owned()) };
        assert_eq!(read(&["Basic realm=\"x\"", bearer]), Some(wanted));
        assert_eq!(read(&["Negotiate", "basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(read(&["Bearer service=\"x\""]), None);
        assert_eq!(read(&[]), None);
    }
}
