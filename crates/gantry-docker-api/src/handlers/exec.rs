//! Further processes in containers.

use gantry_engine::request::CreateExec;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::stream::{Hijack, detach_keys_of, ended, hijack};
use crate::error::{Failure, Outcome};
use crate::reply::{Reply, empty, json as reply_json, ok};
use crate::request::Request;
use crate::server::Api;
use crate::types::nullable;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExecBody {
    #[serde(deserialize_with = "nullable")]
    attach_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    attach_stdout: bool,
    #[serde(deserialize_with = "nullable")]
    attach_stderr: bool,
    #[serde(deserialize_with = "nullable")]
    detach_keys: String,
    #[serde(deserialize_with = "nullable")]
    tty: bool,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    privileged: bool,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
}

/// `POST /containers/ID/exec`.
pub(crate) async fn create(api: &Api, id: &str, mut request: Request) -> Outcome<Reply> {
    let body: ExecBody = request.json().await?;
    if body.cmd.is_empty() {
        return Err(Failure::invalid("No exec command specified"));
    }
    let asked = CreateExec {
        args: body.cmd,
        env: body.env,
        working_dir: body.working_dir,
        user: body.user,
        terminal: body.tty,
        stdin: body.attach_stdin,
        stdout: body.attach_stdout,
        stderr: body.attach_stderr,
        privileged: body.privileged,
        detach_keys: body.detach_keys,
    };
    let id = api.engine.create_exec(id, asked)?;
    Ok(reply_json(StatusCode::CREATED, &json!({"Id": id})))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartBody {
    #[serde(deserialize_with = "nullable")]
    detach: bool,
    console_size: Option<[u16; 2]>,
}

/// `POST /exec/ID/start`.
pub(crate) async fn start(api: &Api, id: &str, mut request: Request) -> Outcome<Reply> {
    let body: StartBody = request.json().await?;
    let size = body.console_size.map(|[rows, columns]| (rows, columns)).filter(|size| size.0 > 0 && size.1 > 0);
    let exec = api.engine.exec(id)?;
    let was = match (exec.state.running, exec.state.exit_code) {
        (true, _) => Some("is already running"),
        (_, Some(_)) => Some("has already run"),
        _ => None,
    };
    let was = was.map(|was| format!("Error: Exec command {id} {was}"));
    if body.detach {
        if let Some(words) = was {
            return Err(Failure::new(StatusCode::CONFLICT, words));
        }
        api.engine.start_exec(id, true, size).await?;
        return Ok(empty(StatusCode::OK));
    }
    // Whoever listens to the process is told as if it had written that itself.
    let tell = |words: &str, request: Request| {
        let words = super::logs::framed(&format!("{words}\r\n"), exec.request.terminal);
        let how = Hijack { before: Some(words), ..Hijack::default() };
        Ok(hijack(request, ended(exec.request.terminal)?, how))
    };
    if let Some(words) = was {
        return tell(&words, request);
    }
    let asked = Some(exec.request.detach_keys.as_str()).filter(|keys| !keys.is_empty());
    let keys = detach_keys_of(exec.request.terminal, asked)?;
    let started = match api.engine.start_exec(id, false, size).await {
        Err(error @ (gantry_engine::Error::Start { .. } | gantry_engine::Error::Invalid(_))) => {
            return tell(&error.to_string(), request);
        }
        started => started?,
    };
    let Some(attached) = started else { return Ok(empty(StatusCode::OK)) };
    let (engine, id) = (api.engine.clone(), id.to_owned());
    let after = async move { drop(engine.wait_exec(&id).await) };
    let how = Hijack { keys, stdin: exec.request.stdin, before: None, after: Some(Box::pin(after)) };
    Ok(hijack(request, attached, how))
}

/// `GET /exec/ID/json`.
pub(crate) fn inspect(api: &Api, id: &str) -> Outcome<Reply> {
    let view = api.engine.exec(id)?;
    let (request, state) = (&view.request, &view.state);
    let (first, rest) = request.args.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut process = json!({
        "tty": request.terminal, "entrypoint": first, "arguments": rest, "privileged": request.privileged,
    });
    if let (false, Some(process)) = (request.user.is_empty(), process.as_object_mut()) {
        process.insert("user".to_owned(), request.user.clone().into());
    }
    Ok(ok(&json!({
        "ID": view.id,
        "Running": state.running,
        "ExitCode": state.exit_code,
        "ProcessConfig": process,
        "OpenStdin": request.stdin,
        "OpenStderr": request.stderr,
        "OpenStdout": request.stdout,
        "CanRemove": false,
        "ContainerID": view.container,
        "DetachKeys": request.detach_keys,
        "Pid": state.pid,
    })))
}

/// `POST /exec/ID/resize`.
pub(crate) async fn resize(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let (rows, columns) = super::container::size(request)?;
    api.engine.resize_exec(id, rows, columns).await?;
    Ok(empty(StatusCode::OK))
}
