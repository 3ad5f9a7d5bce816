//! The recordings of this gateway, as requests ask for them.

use super::Admin;
use super::fault::Fault;
use super::orders::session_id;
use super::recordings::{
    Listing, RecordingDetail, RecordingView, Transcript, read, read_facts, read_list, read_transcript,
};
use crate::names::SessionId;
use crate::recording::directory::Directory;
use crate::recording::format::envelope::Identities;
use axum::http::StatusCode;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

impl Admin {
    fn recordings_root(&self) -> Result<PathBuf, Fault> {
        self.state.recordings().ok_or_else(|| {
            let message = "nothing is recorded here: [recording] names no directory";
            Fault::new(StatusCode::NOT_FOUND, "no_recordings", message)
        })
    }

    /// All recordings, as they were a few seconds ago at most.
    pub(super) async fn recordings(&self) -> Result<Arc<Listing>, Fault> {
        let root = self.recordings_root()?;
        let mut last = self.recordings.last.lock().await;
        if let Some(known) = last.as_ref().filter(|known| known.is_fresh()) {
            return Ok(known.clone());
        }
        let listing = Arc::new(read(move || read_list(&root)).await?);
        *last = Some(listing.clone());
        Ok(listing)
    }

    async fn recording_view(&self, id: &str) -> Result<(SessionId, RecordingView), Fault> {
        let session = session_id(id)?;
        let listing = self.recordings().await?;
        let found = listing.recordings.iter().find(|one| one.session == id).cloned();
        found.map(|view| (session, view)).ok_or_else(|| {
            let message = format!("no recording of session {id} is here");
            Fault::new(StatusCode::NOT_FOUND, "unknown_recording", message)
        })
    }

    /// What is known of one recording without a key.
    pub(super) async fn recording(&self, id: &str) -> Result<RecordingDetail, Fault> {
        let (session, view) = self.recording_view(id).await?;
        let (root, segments) = (self.recordings_root()?, view.segments.clone());
        let facts = read(move || read_facts(&root, &segments, session));
        Ok(RecordingDetail { view, facts: facts.await? })
    }

    /// What was said, opened with the key in `identity`, which is dropped with this call.
    pub(super) async fn transcript(
        &self,
        id: &str,
        identity: Zeroizing<String>,
    ) -> Result<Transcript, Fault> {
        let identities = Identities::parse(&identity).map_err(|why| {
            let message =
                format!("the key {why}; paste the auditor's identity as `staunch audit keygen` wrote it");
            Fault::new(StatusCode::BAD_REQUEST, "bad_identity", message)
        })?;
        let (session, view) = self.recording_view(id).await?;
        let root = self.recordings_root()?;
        let (transcript, is_opened) = read(move || {
            let directory = Directory::read(&root)?;
            Ok(read_transcript(&directory, &view.segments, session, &identities))
        })
        .await?;
        match is_opened {
            true => Ok(transcript),
            false => {
                let message = "this key opens nothing of this recording: it is another auditor's, or the keys were erased";
                Err(Fault::new(StatusCode::FORBIDDEN, "wrong_identity", message))
            }
        }
    }
}
