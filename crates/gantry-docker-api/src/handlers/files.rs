//! Files of containers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_engine::{ChangeKind, PathStat};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::pipe;
use crate::error::{Failure, Outcome};
use crate::reply::{Reply, empty, ok, stream};
use crate::request::Request;
use crate::server::Api;
use crate::time::rfc3339;

/// The mode of a file as Go has it.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        0o020_000 => 1 << 26 | 1 << 21,
        0o060_000 => 1 << 26,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special: u32 = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go).sum();
    kind | special | mode & 0o777
}

fn put_stat(reply: &mut Reply, stat: &PathStat) -> Outcome<()> {
    let document = json!({
        "name": stat.name, "size": stat.size, "mode": go_mode(stat.mode), "mtime": rfc3339(stat.modified),
        "linkTarget": stat.link,
    });
    let text = STANDARD.encode(document.to_string());
    let value = HeaderValue::from_str(&text).map_err(|error| Failure::internal(error.to_string()))?;
    reply.headers_mut().insert("X-Docker-Container-Path-Stat", value);
    Ok(())
}

fn path_of(request: &Request) -> Outcome<String> {
    match request.get("path") {
        "" => Err(Failure::invalid("bad parameter: path cannot be empty")),
        path => Ok(path.to_owned()),
    }
}

/// `HEAD`, `GET` and `PUT /containers/ID/archive`.
pub(crate) async fn archive(api: &Api, id: &str, request: Request) -> Outcome<Reply> {
    let path = path_of(&request)?;
    match request.method {
        Method::PUT => {
            let (keep, own) = (request.flag("noOverwriteDirNonDir"), request.flag("copyUIDGID"));
            api.engine.extract(id, &path, pipe::reader(request.body), keep, own).await?;
            Ok(empty(StatusCode::OK))
        }
        Method::HEAD => {
            let stat = api.engine.stat_path(id, &path).await?;
            let mut reply = empty(StatusCode::OK);
            put_stat(&mut reply, &stat)?;
            Ok(reply)
        }
        Method::GET => {
            let stat = api.engine.stat_path(id, &path).await?;
            let (writer, failer, pieces) = pipe::writer();
            let (engine, id) = (api.engine.clone(), id.to_owned());
            tokio::spawn(async move {
                if let Err(error) = engine.archive(&id, &path, writer).await {
                    tracing::warn!("archive {path} of container {id}: {error}");
                    failer.fail(error).await;
                }
            });
            let mut reply = stream("application/x-tar", pieces);
            put_stat(&mut reply, &stat)?;
            Ok(reply)
        }
        _ => Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
    }
}

/// `GET /containers/ID/export`.
pub(crate) fn export(api: &Api, id: &str) -> Outcome<Reply> {
    api.engine.container(id)?;
    let (writer, failer, pieces) = pipe::writer();
    let (engine, id) = (api.engine.clone(), id.to_owned());
    tokio::spawn(async move {
        if let Err(error) = engine.export(&id, writer).await {
            tracing::warn!("export container {id}: {error}");
            failer.fail(error).await;
        }
    });
    Ok(stream("application/x-tar", pieces))
}

/// `GET /containers/ID/changes`.
pub(crate) async fn changes(api: &Api, id: &str) -> Outcome<Reply> {
    let changes = api.engine.changes(id).await?;
    if changes.is_empty() {
        return Ok(ok(&Value::Null));
    }
    let list = changes.iter().map(|change| {
        let kind = match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        json!({"Path": change.path, "Kind": kind})
    });
    Ok(ok(&list.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn modes() {
        for (mode, go) in [
            (0o100_644, 0o644),
            (0o040_755, 1 << 31 | 0o755),
            (0o120_777, 1 << 27 | 0o777),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
        ] {
            assert_eq!(super::go_mode(mode), go, "{mode:o}");
        }
    }
}
