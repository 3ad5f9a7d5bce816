//! `tracing` → lines → [`Sink`].

use super::clock::{Clock, time_of_day};
use super::escape::{Escape, Style};
use super::sink::Priority;
use super::{CLOSED, Guard, REFUSED, Room, Sink, TARGET};
use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::io::{IsTerminal, Write as IoWrite};
use std::sync::OnceLock;
use std::time::SystemTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// One readable line per event.
    Human,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The filter cannot be read.
    #[error(
        "log filter '{text}' is not understood ({why}); write a level such as 'info', or 'warn,staunch::dial=debug'"
    )]
    Filter {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The writing thread could not be started.
    #[error("the log's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// A subscriber is set already.
    #[error("logging was set up before")]
    Twice,
}

/// Sends the whole program's `tracing` events to `destination` until the guard is dropped.
///
/// `filter` is a level or a comma-separated list of `target=level`; it holds for diagnostics, never for the evidence.
/// [`Format::Auto`] asks whether standard output is a terminal.
pub fn init(
    format: Format,
    filter: &str,
    room: Room,
    destination: impl IoWrite + Send + 'static,
) -> Result<Guard, SetupError> {
    let filter = targets(filter)?;
    let (sink, guard) = Sink::start_with(destination, room)?;
    let subscriber = Registry::default().with(Pipeline::new(format, sink.clone())).with(filter);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| SetupError::Twice)?;
    PROCESS_LOG.set(sink).map_err(|_| SetupError::Twice)?;
    Ok(guard)
}

/// Where the whole program's lines go, once [`init`] has said so.
static PROCESS_LOG: OnceLock<Sink> = OnceLock::new();

/// True while the evidence of new work has room in the program's log: what `authorise` asks before it permits anything.
pub fn takes_new_work() -> bool {
    PROCESS_LOG.get().is_none_or(Sink::takes_new_work)
}

/// The layer that makes lines.
pub struct Pipeline {
    style: Style,
    sink: Sink,
}

impl Pipeline {
    /// Lines of this format go to `sink`.
    pub fn new(format: Format, sink: Sink) -> Self {
        let human = match format {
            Format::Auto => std::io::stdout().is_terminal(),
            Format::Json => false,
            Format::Human => true,
        };
        Pipeline { style: if human { Style::Human } else { Style::Json }, sink }
    }

    /// A subscriber of its own, for use in a part of the program only.
    pub fn subscriber(self, filter: &str) -> Result<impl Subscriber + Send + Sync + 'static, SetupError> {
        Ok(Registry::default().with(self).with(targets(filter)?))
    }
}

pub(super) fn targets(filter: &str) -> Result<Targets, SetupError> {
    let targets: Targets =
        filter.parse().map_err(|e| SetupError::Filter { text: filter.into(), why: format!("{e}") })?;
    Ok(targets.with_target(TARGET, LevelFilter::INFO))
}

impl<S: Subscriber> Layer<S> for Pipeline {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let kept = BUFFER.try_with(|buffer| {
            buffer.try_borrow_mut().map(|mut buffer| self.write(event, &mut buffer)).is_ok()
        });
        // A value that logs while it is shown, or a thread that is ending: rare, so a new buffer will do.
        if kept != Ok(true) {
            self.write(event, &mut Buffer::default());
        }
    }
}

impl Pipeline {
    fn write(&self, event: &Event<'_>, buffer: &mut Buffer) {
        let metadata = event.metadata();
        let evidence = metadata.target() == TARGET;
        let Buffer { line, scratch, clock } = buffer;
        line.clear();
        // Writing to a String cannot fail.
        let _ = head(line, clock, self.style, *metadata.level(), SystemTime::now());
        if evidence {
            event.record(&mut Evidence { line, style: self.style });
        } else {
            let target = metadata.target();
            let _ = match self.style {
                Style::Json => write!(line, "\"event\":\"log\",\"target\":\"{target}\""),
                Style::Human => write!(line, "{target}:"),
            };
            event.record(&mut Diagnostic { line, scratch, style: self.style });
        }
        line.push_str(if self.style == Style::Json { "}\n" } else { "\n" });
        let priority = match (evidence, metadata.name()) {
            (false, _) => Priority::Diagnostic,
            (true, REFUSED) => Priority::Unpermitted,
            (true, CLOSED) => Priority::Closing,
            (true, _) => Priority::Evidence,
        };
        let urgent = *metadata.level() == Level::ERROR;
        self.sink.line(line.as_bytes(), priority, urgent);
    }
}

fn head(
    line: &mut String,
    clock: &mut Clock,
    style: Style,
    level: Level,
    now: SystemTime,
) -> std::fmt::Result {
    match style {
        Style::Json => {
            line.push_str("{\"time\":\"");
            clock.rfc3339(line, now);
            line.push_str("\",\"level\":\"");
            line.push_str(level.as_str());
            line.push_str("\",");
            Ok(())
        }
        Style::Human => {
            time_of_day(line, now)?;
            write!(line, " {level:<5} ")
        }
    }
}

/// Writes a line of the evidence as JSON, without the line feed.
pub(super) fn write_json(line: &mut String, facts: &impl std::fmt::Display) -> std::fmt::Result {
    head(line, &mut Clock::default(), Style::Json, Level::INFO, SystemTime::now())?;
    write!(line, "{facts}}}")
}

/// A line of the evidence brings its own text.
struct Evidence<'a> {
    line: &'a mut String,
    style: Style,
}

impl Visit for Evidence<'_> {
    fn record_debug(&mut self, _: &Field, facts: &dyn Debug) {
        let _ = match self.style {
            Style::Json => write!(self.line, "{facts:?}"),
            Style::Human => write!(self.line, "{facts:#?}"),
        };
    }
}

/// Any other event: its fields may quote what a peer sent.
struct Diagnostic<'a> {
    line: &'a mut String,
    scratch: &'a mut String,
    style: Style,
}

impl Diagnostic<'_> {
    fn name(&mut self, field: &Field) {
        let name = field.name();
        let _ = match self.style {
            Style::Json => write!(self.line, ",\"{name}\":"),
            Style::Human if name == "message" => write!(self.line, " "),
            Style::Human => write!(self.line, " {name}="),
        };
    }

    fn text(&mut self, field: &Field, text: &str) {
        self.name(field);
        let bare = self.style == Style::Human
            && (field.name() == "message" || !text.is_empty() && !text.contains([' ', '"', '=']));
        let quote = if bare { "" } else { "\"" };
        self.line.push_str(quote);
        let escape = Escape { style: self.style, limit: DIAGNOSTIC_BYTES, is_cut: false };
        if !escape.write(self.line, text.as_bytes()) {
            self.line.push('…');
        }
        self.line.push_str(quote);
    }

    fn literal(&mut self, field: &Field, value: impl std::fmt::Display) {
        self.name(field);
        let _ = write!(self.line, "{value}");
    }
}

impl Visit for Diagnostic<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut scratch = std::mem::take(self.scratch);
        scratch.clear();
        let _ = write!(scratch, "{value:?}");
        self.text(field, &scratch);
        *self.scratch = scratch;
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.literal(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.literal(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.literal(field, value);
    }
}

/// Bytes of one field of a diagnostic: servers' error texts stand there, which may be of any length.
const DIAGNOSTIC_BYTES: usize = 2048;

thread_local! {
    /// Kept between lines, so that a line allocates nothing.
    static BUFFER: RefCell<Buffer> = RefCell::default();
}

#[derive(Default)]
struct Buffer {
    line: String,
    scratch: String,
    clock: Clock,
}
