//! A session as its capture needs it: read once to know it, again to write it.

use crate::evidence::EvidenceFault;
use crate::evidence::arguments::Session;
use crate::evidence::progress::Progress;
use crate::evidence::transcript::{Protocol, detect_protocol};
use crate::recording::directory::Directory;
use crate::recording::format::envelope::Identities;
use crate::recording::format::frame::Plane;
use crate::recording::reader::{Event, Frame, Player, ReadFault, play_frames};
use serde_json::{Map, Value};

/// A session that is read more than once.
pub(super) struct Source<'a> {
    pub(super) directory: &'a Directory,
    pub(super) identities: &'a Identities,
    pub(super) session: Session,
}

/// Facts of a session that its capture needs first.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) frames: u64,
    pub(super) opened: u64,
    pub(super) sealed: u64,
    pub(super) faults: Vec<ReadFault>,
    pub(super) facts: Map<String, Value>,
    /// First bytes of both planes.
    pub(super) starts: [Vec<u8>; 2],
    pub(super) first: u64,
}

/// First bytes that are looked at.
const START: usize = 4096;

impl Source<'_> {
    pub(super) fn play(
        &self,
        verb: &'static str,
        take: impl FnMut(&Frame, &Player, Event),
    ) -> Result<Vec<ReadFault>, EvidenceFault> {
        let segments = self.directory.segments()?;
        let (progress, session, identities) = (Progress::new(verb), self.session.0, Some(self.identities));
        Ok(play_frames(self.directory, &segments, session, identities, &mut &progress, take))
    }

    pub(super) fn survey(&self) -> Result<Survey, EvidenceFault> {
        let mut survey = Survey::default();
        let faults = self.play("reading segment", |frame, _, event| {
            if survey.frames == 0 {
                survey.first = frame.head.time;
            }
            survey.frames += 1;
            match event {
                Event::Fact(line) => {
                    if let Ok(Value::Object(line)) = serde_json::from_slice(&line) {
                        survey.facts.extend(line);
                    }
                }
                Event::Data(plane, Some(data)) => {
                    survey.opened += 1;
                    let start = &mut survey.starts[plane.index()];
                    start.extend_from_slice(&data[..data.len().min(START.saturating_sub(start.len()))]);
                }
                Event::Data(_, None) | Event::Damaged(_) => survey.sealed += 1,
                _ => {}
            }
        })?;
        survey.faults = faults;
        Ok(survey)
    }
}

impl Survey {
    pub(super) fn text(&self, name: &str) -> &str {
        self.facts.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn protocol(&self) -> Protocol {
        detect_protocol(&self.starts[Plane::Up.index()], &self.starts[Plane::Down.index()])
    }
}
