//! Bodies of answers that are read whole, never more of them than a limit.

use bytes::{Bytes, BytesMut};
use reqwest::Response;

use crate::error::{Error, Result, chain};
use crate::header::content_length;

/// The whole body, if it has at most `limit` bytes.
pub(crate) async fn read_bounded(mut response: Response, limit: u64, host: &str, what: &str) -> Result<Bytes> {
    let large = || Error::TooLarge { host: host.to_owned(), what: what.to_owned(), limit };
    let told = content_length(response.headers());
    if told.is_some_and(|length| length > limit) {
        return Err(large());
    }
    let mut whole = BytesMut::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| Error::Unreachable { host: host.to_owned(), why: chain(&error) })?;
        let Some(chunk) = chunk else { break };
        if whole.len() as u64 + chunk.len() as u64 > limit {
            return Err(large());
        }
        // Most documents come in one piece, which needs no copy.
        if whole.is_empty() && told == Some(chunk.len() as u64) {
            return Ok(chunk);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}
