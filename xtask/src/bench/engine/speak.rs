//! Requests to our socket without a client: what is measured so is the engine alone.

use super::engines::OURS;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// Posts a document, and gives what comes back, null if nothing does.
fn post(path: &str, body: &Value) -> Result<Value> {
    let mut socket = UnixStream::connect(OURS).context("connect to our daemon")?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = "Host: gantry\r\nConnection: close\r\nContent-Type: application/json";
    write!(socket, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).context("read the daemon's answer")?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "POST {path}: {}", answer.trim());
    let text = answer.split_once("\r\n\r\n").map_or("", |(_, text)| text);
    Ok(serde_json::from_str(text).unwrap_or(Value::Null))
}

/// Makes a container that sleeps, and starts it.
pub fn create_and_start(name: &str) -> Result<()> {
    let request = json!({ "Image": "busybox", "Cmd": ["/bin/sleep", "100000"] });
    let made = post(&format!("/v1.43/containers/create?name={name}"), &request)?;
    let id = made["Id"].as_str().context("the daemon gave no id")?;
    post(&format!("/v1.43/containers/{id}/start"), &Value::Null)?;
    Ok(())
}
