//! Who one is to a registry, and where that is known from.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Result;

/// What proves to a registry who one is. Debug output shows no secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and its password.
    Password {
        /// The name.
        username: String,
        /// The password, or what stands in for one (a personal access token).
        password: String,
    },
    /// A refresh token, which the registry's token server gave for a password.
    Identity {
        /// The name that it was given to; may be empty.
        username: String,
        /// The token.
        token: String,
    },
    /// A token that is sent to the registry as it is.
    Bearer(String),
}

impl Credential {
    /// A name and its password.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: password.into() }
    }

    /// The name; empty if it is not known.
    pub fn username(&self) -> &str {
        match self {
            Self::Password { username, .. } | Self::Identity { username, .. } => username,
            Self::Bearer(_) => "",
        }
    }

    /// The value of an `Authorization` header of the scheme Basic (RFC 7617), if there is a password.
    pub(crate) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Password { .. } => "Password",
            Self::Identity { .. } => "Identity",
            Self::Bearer(_) => "Bearer",
        };
        write!(f, "{kind}({:?}, ..)", self.username())
    }
}

/// Where credentials come from. Calls may block: the client makes them on a thread for such.
pub trait Credentials: Send + Sync {
    /// The credential for a registry: `docker.io`, or a host with an optional port.
    fn get(&self, registry: &str) -> Result<Option<Credential>>;
}

/// No credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn get(&self, _registry: &str) -> Result<Option<Credential>> {
        Ok(None)
    }
}

/// The same credential for one registry, and none for others: what an API request brings along.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The registry: `docker.io`, or a host with an optional port.
    pub registry: String,
    /// Its credential.
    pub credential: Credential,
}

impl Credentials for Fixed {
    fn get(&self, registry: &str) -> Result<Option<Credential>> {
        Ok((registry == self.registry).then(|| self.credential.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for one in [
            Credential::password("me", "hidden"),
            Credential::Identity { username: "me".into(), token: "hidden".into() },
            Credential::Bearer("hidden".into()),
        ] {
            assert!(!format!("{one:?}").contains("hidden"));
        }
    }

    #[test]
    fn basic() {
        assert_eq!(
            Credential::password("Aladdin", "open sesame").basic().unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(Credential::Bearer("x".into()).basic(), None);
    }
}
