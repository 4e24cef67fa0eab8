//! Tokens: JSON Web Tokens (RFC 7519), signed with HMAC-SHA-256 by a key that lies in the storage.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::keys;
use crate::storage::Storage;

const HEAD: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const LONGEST: usize = 16 << 10;
/// Clocks may differ so much, in seconds.
const LEEWAY: i64 = 30;

/// What a token allows in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Grant {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub actions: Vec<String>,
}

impl Grant {
    pub fn allows(&self, repository: &str, action: &str) -> bool {
        self.kind == "repository" && self.name == repository && self.actions.iter().any(|a| a == action)
    }
}

/// What a token says.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Claims {
    /// Whose it is; empty: nobody's.
    pub sub: String,
    /// Given at, in unix seconds.
    pub iat: i64,
    /// Valid until, in unix seconds.
    pub exp: i64,
    pub access: Vec<Grant>,
}

/// Signs tokens and checks them.
pub(crate) struct Signer(hmac::Key);

impl Signer {
    /// Reads the key, or makes it.
    pub async fn open(storage: &Storage) -> Result<Self> {
        if let Some(bytes) = storage.get(keys::TOKEN, 4096).await? {
            if bytes.len() != 32 {
                return Err(Error::content(keys::TOKEN, "it is no key: remove it, and a new one is made"));
            }
            return Ok(Self::new(&bytes));
        }
        let bytes: ring::rand::Random<[u8; 32]> = ring::rand::generate(&ring::rand::SystemRandom::new())
            .map_err(|_| Error::content(keys::TOKEN, "there is no randomness"))?;
        let bytes = bytes.expose();
        storage.put(keys::TOKEN, bytes.to_vec().into()).await?;
        Ok(Self::new(&bytes))
    }

    fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A token.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        let body = serde_json::to_vec(claims).map_err(|e| Error::content("token", e.to_string()))?;
        let text = format!("{}.{}", BASE64.encode(HEAD), BASE64.encode(body));
        let signature = hmac::sign(&self.0, text.as_bytes());
        Ok(format!("{text}.{}", BASE64.encode(signature.as_ref())))
    }

    /// What a token says, if it is ours and of now.
    pub fn verify(&self, token: &str, now: i64) -> std::result::Result<Claims, &'static str> {
        const BAD: &str = "the token is not of this registry";
        let (text, signature) = token.rsplit_once('.').filter(|_| token.len() <= LONGEST).ok_or(BAD)?;
        let signature = BASE64.decode(signature).map_err(|_| BAD)?;
        hmac::verify(&self.0, text.as_bytes(), &signature).map_err(|_| BAD)?;
        // Only what was signed here gets this far, so the head is ours.
        let (_, body) = text.split_once('.').ok_or(BAD)?;
        let body = BASE64.decode(body).map_err(|_| BAD)?;
        let claims: Claims = serde_json::from_slice(&body).map_err(|_| BAD)?;
        if now >= claims.exp || now < claims.iat - LEEWAY {
            return Err("the token has expired");
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let signer = Signer::new(&[7; 32]);
        let claims = || Claims { sub: "ann".to_owned(), iat: 100, exp: 200, access: vec![] };
        let token = signer.sign(&claims()).unwrap();
        let check = |signer: &Signer, token: &str, now: i64, ok: bool| {
            assert_eq!(signer.verify(token, now).is_ok(), ok, "{token} at {now}");
        };
        check(&signer, &token, 150, true);
        check(&signer, &token, 200, false);
        check(&signer, &token, 60, false);
        check(&Signer::new(&[8; 32]), &token, 150, false);
        let (text, signature) = token.rsplit_once('.').unwrap();
        let (head, _) = text.split_once('.').unwrap();
        let forged = BASE64.encode(serde_json::to_vec(&Claims { sub: "root".to_owned(), ..claims() }).unwrap());
        check(&signer, &format!("{head}.{forged}.{signature}"), 150, false);
        let none = BASE64.encode(r#"{"alg":"none"}"#);
        check(&signer, &format!("{none}.{forged}."), 150, false);
        for text in ["", ".", "..", "a.b.c", &"a".repeat(20_000)] {
            check(&signer, text, 150, false);
        }
    }
}
