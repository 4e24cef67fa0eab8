//! `login` and `logout`.

use gantry_distribution::Credential;
use gantry_model::reference::{DEFAULT_REGISTRY, Reference};

use crate::cli::registry::{Login, Logout};
use crate::context::{self, Context};
use crate::failure::{Failure, Of, Outcome};
use crate::{prompt, terminal};

/// Logs in: asks the registry whether it takes name and password, and keeps them.
pub fn login(context: &Context, args: Login) -> Outcome {
    let registry = host(args.registry.as_deref())?;
    let username = match args.username {
        Some(username) => username,
        None => prompt::ask("Username: ")?,
    };
    if username.is_empty() {
        return Err(Failure::new(format!("log in to {registry}: a user name is needed")).hint("give --username"));
    }
    let password = if args.password_stdin {
        prompt::password_from_stdin()?
    } else if let Some(password) = args.password {
        terminal::tell("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
        password
    } else {
        prompt::password("Password: ")?
    };
    if password.is_empty() {
        return Err(Failure::new(format!("log in to {registry}: the password is empty")));
    }
    let client = context.client()?;
    let kept = context::run(async {
        client.login(&registry, &Credential::password(username, password)).await.of(format!("log in to {registry}"))
    })?;
    context::credentials()?.store(&registry, &kept).of(format!("keep the login to {registry}"))?;
    terminal::print("Login Succeeded\n")
}

/// Logs out: forgets name and password.
pub fn logout(args: &Logout) -> Outcome {
    let registry = host(args.registry.as_deref())?;
    let known = context::credentials()?.erase(&registry).of(format!("log out from {registry}"))?;
    terminal::print(&if known {
        format!("Removing login credentials for {registry}\n")
    } else {
        format!("Not logged in to {registry}\n")
    })
}

/// The registry as references name it. People paste URLs.
pub fn host(asked: Option<&str>) -> Outcome<String> {
    let Some(asked) = asked else { return Ok(DEFAULT_REGISTRY.to_owned()) };
    let bare = asked.strip_prefix("https://").or_else(|| asked.strip_prefix("http://")).unwrap_or(asked);
    let bare = bare.split('/').next().unwrap_or_default();
    match Reference::new(bare, "x", None, None) {
        Ok(reference) => Ok(reference.registry().to_owned()),
        Err(_) => Err(Failure::Usage(format!("invalid registry {asked:?}: write HOST[:PORT], such as localhost:5000"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check =
            |asked: Option<&str>, expect: Option<&str>| assert_eq!(host(asked).ok().as_deref(), expect, "{asked:?}");
        check(None, Some("docker.io"));
        check(Some("https://index.docker.io/v1/"), Some("docker.io"));
        check(Some("localhost:5000"), Some("localhost:5000"));
        check(Some("http://r.example.org/v2/"), Some("r.example.org"));
        for bad in ["", "a b", "x:y", "https://"] {
            check(Some(bad), None);
        }
    }
}
