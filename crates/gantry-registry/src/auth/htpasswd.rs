//! Users and the hashes of their passwords, as Apache's `htpasswd -B` writes them.
//!
//! bcrypt is slow on purpose, and clients send the password again with every request. So a password that was right is
//! remembered for a minute, as a keyed hash; one that was wrong is not, and few are tried at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ring::hmac;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

const REMEMBERED: i64 = 60;
const MOST_REMEMBERED: usize = 4096;
/// Passwords tried at a time.
const TRIED: usize = 2;
/// bcrypt looks at 72 bytes; longer passwords are refused, since the rest would not count.
const LONGEST: usize = 72;
/// Who is not there takes as long as who is: this hash is tried instead, and its result does not count.
const NOBODY: &str = "$2y$10$wHqK0aMBAF5VggxS7kxuoOMrhNtejbzVU4pDf457P5AjLIggYa6dO";

struct Users {
    hashes: HashMap<String, Arc<str>>,
    modified: Option<SystemTime>,
    /// When the file was last looked at, in unix seconds.
    looked: i64,
}

/// The password file.
pub(crate) struct Passwords {
    path: PathBuf,
    users: Mutex<Users>,
    key: hmac::Key,
    right: Mutex<HashMap<[u8; 32], i64>>,
    permits: Semaphore,
}

impl Passwords {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self> {
        let (hashes, modified) = read(path)?;
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|_| Error::secret(path, "there is no randomness"))?;
        let users = Mutex::new(Users { hashes, modified, looked: 0 });
        Ok(Self { path: path.into(), users, key, right: Mutex::default(), permits: Semaphore::new(TRIED) })
    }

    /// Whether a password is a user's.
    pub async fn verify(&self, name: &str, password: &str, now: i64) -> bool {
        let hash = self.hash(name, now);
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.into());
        let mut mark = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.as_bytes(), password.as_bytes()] {
            mark.update(&(part.len() as u64).to_le_bytes());
            mark.update(part);
        }
        let mut tag = [0_u8; 32];
        tag.copy_from_slice(mark.sign().as_ref());
        // The marks are keyed: that looking one up takes a time of its own tells nothing about the password.
        let remembered =
            self.right.lock().unwrap_or_else(PoisonError::into_inner).get(&tag).is_some_and(|until| *until > now);
        if known && remembered {
            return true;
        }
        if password.len() > LONGEST || password.contains('\0') {
            return false;
        }
        let Ok(_permit) = self.permits.acquire().await else { return false };
        let password = password.to_owned();
        let tried = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        let right = known && tried.unwrap_or(false);
        if right {
            let mut remembered = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() >= MOST_REMEMBERED {
                remembered.retain(|_, until| *until > now);
            }
            if remembered.len() < MOST_REMEMBERED {
                remembered.insert(tag, now + REMEMBERED);
            }
        }
        right
    }

    fn hash(&self, name: &str, now: i64) -> Option<Arc<str>> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.looked != now {
            users.looked = now;
            let modified = std::fs::metadata(&self.path).and_then(|m| m.modified()).ok();
            if modified != users.modified {
                match read(&self.path) {
                    Ok((hashes, modified)) => (users.hashes, users.modified) = (hashes, modified),
                    Err(error) => {
                        tracing::error!(%error, "password file cannot be read again, the old one stays in force");
                    }
                }
            }
        }
        users.hashes.get(name).cloned()
    }
}

type Read = (HashMap<String, Arc<str>>, Option<SystemTime>);

fn read(path: &Path) -> Result<Read> {
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    Ok((parse(&text).map_err(|why| Error::secret(path, why))?, modified))
}

fn parse(text: &str) -> std::result::Result<HashMap<String, Arc<str>>, String> {
    let mut users = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = index + 1;
        let (name, hash) = line.split_once(':').ok_or_else(|| format!("line {at} is not name:hash"))?;
        let bcrypt = ["$2y$", "$2a$", "$2b$"].iter().any(|p| hash.starts_with(p)) && hash.len() == 60;
        if !bcrypt {
            return Err(format!("line {at}: the hash of {name} is not bcrypt; write it with htpasswd -B"));
        }
        if name.is_empty() || name == "*" || name == super::ANONYMOUS {
            return Err(format!("line {at}: {name:?} cannot be a user's name"));
        }
        users.insert(name.to_owned(), hash.into());
    }
    if users.is_empty() {
        return Err("there is no user in it; add one with htpasswd -B".to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let check = |text: &str, expect: Result<usize, &str>| match (parse(text), expect) {
            (Ok(users), Ok(count)) => assert_eq!(users.len(), count, "{text:?}"),
            (Err(why), Err(expect)) => assert!(why.contains(expect), "{text:?}: {why}"),
            (found, _) => panic!("{text:?}: {found:?}"),
        };
        check(&format!("# users\n\nann:{NOBODY}\nbob:{NOBODY}\n"), Ok(2));
        check("", Err("no user"));
        check("ann", Err("line 1"));
        check("ann:{SHA}x", Err("not bcrypt"));
        check("ann:$2y$10$short", Err("not bcrypt"));
        check(&format!("anonymous:{NOBODY}"), Err("cannot be"));
        check(&format!("*:{NOBODY}"), Err("cannot be"));
    }
}
