//! `export`: all files of a container as an archive.

use std::io::Write;
use std::path::Path;

use http_body_util::BodyExt;

use crate::client::{Client, Request, Target};
use crate::commands::stream::Output;
use crate::context::Context;
use crate::failure::{Failure, Of, Outcome};

/// Writes the files of a container to a file, or to standard output.
pub fn export(context: &Context, name: &str, file: Option<&Path>) -> Outcome {
    let output = Output::open(file, "export")?;
    let mut writer = output.writer()?;
    let outcome = context.ask(async |client| write_files(client, name, &mut writer).await);
    output.finish(outcome)
}

/// Writes the files of a container.
pub async fn write_files(client: &Client, name: &str, writer: &mut impl Write) -> Outcome {
    let mut body = client.call(Request::get(Target::new(&["containers", name, "export"]))).await?.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(format!("the archive was cut off: {error}")))?;
        if let Some(data) = frame.data_ref() {
            writer.write_all(data).of("write the archive")?;
        }
    }
    writer.flush().of("write the archive")
}
