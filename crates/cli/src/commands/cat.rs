//! `refloat cat`.
//!
//! Invariant: content that the point marks as sensitive is masked unless `--reveal` is given.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use refloat_engine::stored::BlobStream;
use refloat_etcd::StoredValue;
use refloat_model::tree_path::TreePath;
use serde::Serialize;

use crate::command_error::{CommandError, ErrorKind};
use crate::etcd_path::Inside;
use crate::exit_status::ExitStatus;
use crate::mask::{self, Reveal};
use crate::output;
use crate::point;
use crate::settings::Settings;

/// How much is read before it is printed, in bytes.
const COPY_BYTES: usize = 1 << 20;
/// The largest file that is masked or printed as JSON: it is held in memory.
const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// Print one file of a recovery point
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The point and the file's path
    #[arg(value_name = "POINT:PATH")]
    point: String,
    /// Show sensitive values, too
    #[arg(long)]
    reveal: bool,
}

#[derive(Serialize)]
struct Report {
    path: String,
    /// Bytes of the stored file.
    size: u64,
    /// Whether values were replaced by `***`.
    masked: bool,
    /// `utf-8` or `base64`.
    encoding: &'static str,
    content: String,
}

/// Prints the file.
pub fn run(args: &Args, settings: &Settings) -> Result<ExitStatus, CommandError> {
    let locator = point::locator(&args.point)?;
    let open = point::open(settings, &locator.point)?;
    if let Some(inside) = Inside::through(&open, &locator.path)? {
        return key(args, &locator.path, &inside, settings);
    }
    let node = open.tree.file(&locator.path)?;
    let masked = open.is_masked(&locator.path, Reveal::from(args.reveal))?;
    let mut stream = BlobStream::new(open.tree.repository().clone(), node.content.clone());
    let failed = |e| CommandError::io("read", &locator.path, &e);
    if !masked && !settings.output.json {
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = stream.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                return Ok(ExitStatus::Success);
            }
            output::print(buffer.get(..count).unwrap_or_default())?;
        }
    }
    if node.size() > WHOLE_BYTES_MAX {
        return Err(CommandError::new(
            ErrorKind::Refused,
            format!(
                "{} is too large to be shown masked or as JSON",
                locator.path
            ),
        )
        .hint("use --reveal without --json, or restore it"));
    }
    let mut content = Vec::new();
    stream.read_to_end(&mut content).map_err(failed)?;
    if masked {
        content = mask::content(&content).into_bytes();
    }
    if !settings.output.json {
        settings
            .output
            .note("sensitive values are masked; --reveal shows them");
        output::print(&content)?;
        return Ok(ExitStatus::Success);
    }
    let (encoding, content) = match String::from_utf8(content) {
        Ok(text) => ("utf-8", text),
        Err(error) => ("base64", STANDARD.encode(error.as_bytes())),
    };
    let path = locator.path.to_string();
    let report = Report {
        path,
        size: node.size(),
        masked,
        encoding,
        content,
    };
    settings
        .output
        .result("cat", ExitStatus::Success, &report, String::new)
}

/// Prints the value of a key of an etcd snapshot as a JSON document.
fn key(
    args: &Args,
    path: &TreePath,
    inside: &Inside,
    settings: &Settings,
) -> Result<ExitStatus, CommandError> {
    let object = inside.view.object(&inside.within)?;
    if let StoredValue::Encrypted { how } = object.recognised() {
        return Err(CommandError::new(
            ErrorKind::Refused,
            format!("{path} is encrypted ({how})"),
        )
        .hint(
            "only an API server with the encryption configuration of that time reads it: restore \
             etcd with --to etcd:FOLDER, and the configuration from host/ beside the snapshot",
        ));
    }
    let masked = object.is_sensitive() && Reveal::from(args.reveal) == Reveal::Masked;
    let document = object.document().to_string();
    let content = if masked {
        mask::content(document.as_bytes())
    } else {
        format!("{:#}\n", object.document())
    };
    if !settings.output.json {
        if masked {
            settings
                .output
                .note("sensitive values are masked; --reveal shows them");
        }
        output::print(content.as_bytes())?;
        return Ok(ExitStatus::Success);
    }
    let report = Report {
        path: path.to_string(),
        size: object.value.len() as u64,
        masked,
        encoding: "utf-8",
        content,
    };
    settings
        .output
        .result("cat", ExitStatus::Success, &report, String::new)
}
