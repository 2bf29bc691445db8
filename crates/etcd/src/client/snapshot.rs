//! A member's snapshot as a stream.
//!
//! Invariant: the end is reported only if the member said that nothing remains.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use refloat_model::cancel::Cancel;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use super::message::{SnapshotRequest, SnapshotResponse};
use super::{ANSWER_BYTES_MAX, Call, Client, Connection, ready};
use crate::error::EtcdError;

/// How long the next piece may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
const CALL: Call = Call {
    operation: "read a snapshot of",
    path: "/etcdserverpb.Maintenance/Snapshot",
    timeout: PIECE_TIMEOUT,
};

/// Reads a snapshot piece by piece; one piece is in memory at a time.
pub struct SnapshotStream {
    client: Arc<Client>,
    endpoint: String,
    pieces: Streaming<SnapshotResponse>,
    piece: io::Cursor<Vec<u8>>,
    /// What the member said is still to come.
    remaining: u64,
    cancel: Cancel,
}

impl SnapshotStream {
    /// Asks a member for a snapshot.
    ///
    /// # Errors
    /// It does not answer.
    pub fn open(client: Arc<Client>, to: &Connection, cancel: &Cancel) -> Result<Self, EtcdError> {
        let pieces = match pieces(&client, to, cancel) {
            Err(error) if client.is_worn_out(&error) => pieces(&client, to, cancel),
            pieces => pieces,
        };
        Ok(Self {
            pieces: pieces?,
            client,
            endpoint: to.endpoint.clone(),
            piece: io::Cursor::default(),
            remaining: 0,
            cancel: cancel.clone(),
        })
    }
}

fn pieces(
    client: &Client,
    to: &Connection,
    cancel: &Cancel,
) -> Result<Streaming<SnapshotResponse>, EtcdError> {
    let mut request = tonic::Request::new(SnapshotRequest {});
    client.sign(&mut request, to, cancel)?;
    let mut grpc = Grpc::new(to.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
    let asking = async move {
        ready(&mut grpc).await?;
        let codec = ProstCodec::<SnapshotRequest, SnapshotResponse>::default();
        let path = PathAndQuery::from_static(CALL.path);
        let answer = grpc.server_streaming(request, path, codec).await?;
        Ok(answer.into_inner())
    };
    client
        .wait(asking, PIECE_TIMEOUT, cancel)
        .map_err(|failure| failure.at(CALL, &to.endpoint))
}

impl Read for SnapshotStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let next = self
                .client
                .wait(self.pieces.message(), PIECE_TIMEOUT, &self.cancel)
                .map_err(|failure| failure.at(CALL, &self.endpoint));
            match next.map_err(io::Error::other)? {
                Some(piece) => {
                    self.remaining = piece.remaining_bytes;
                    self.piece = io::Cursor::new(piece.blob);
                }
                None if self.remaining > 0 => {
                    let missing = format!("the member owes {} bytes", self.remaining);
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing));
                }
                None => return Ok(0),
            }
        }
    }
}
