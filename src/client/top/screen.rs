//! What `staunch top` shows in a terminal, and what keys do to it. Reads no terminal and asks no gateway.

use super::table::{HEADS, detail_lines, row};
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, TableState, Wrap};
use serde_json::Value;

/// By what sessions are sorted, in the words of the API.
pub(super) const SORTS: [&str; 8] = ["rate", "age", "up", "down", "requests", "route", "subject", "remote"];

/// Characters of a filter and of a reason, as the API takes them.
const MAX_TEXT: usize = 200;

/// What the keys do.
const HELP: &str = "↑↓ choose  Enter details  / filter  s sort  r reverse  e end  p pause  q quit";

/// What the keyboard is for.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    List,
    Details,
    /// A filter is typed; what it was before stands for Esc.
    Filter {
        before: String,
    },
    /// A reason is typed for the end of this session.
    Reason {
        session: String,
        text: String,
    },
}

/// What the caller is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing but draw.
    Draw,
    /// Ask the gateway again.
    Refresh,
    /// End a session.
    End {
        session: String,
        reason: String,
    },
    Quit,
}

/// All of it.
pub(super) struct Screen {
    address: String,
    mode: Mode,
    sort: usize,
    is_reversed: bool,
    filter: String,
    pub(super) is_paused: bool,
    sessions: Vec<Value>,
    live: u64,
    matching: u64,
    chosen: TableState,
    notice: Option<String>,
}

impl Screen {
    pub(super) fn new(address: &str, sort: &str, filter: Option<&str>) -> Self {
        let sort = SORTS.iter().position(|known| *known == sort).unwrap_or(0);
        Screen {
            address: address.to_owned(),
            mode: Mode::List,
            sort,
            is_reversed: false,
            filter: filter.unwrap_or_default().to_owned(),
            is_paused: false,
            sessions: Vec::new(),
            live: 0,
            matching: 0,
            chosen: TableState::default(),
            notice: None,
        }
    }

    /// The sort, whether it is from the largest, and the filter: what is to be asked.
    pub(super) fn query(&self) -> (&'static str, bool, &str) {
        let sort = SORTS[self.sort];
        // Numbers from the largest, names from the first.
        let is_descending = !["route", "subject", "remote"].contains(&sort);
        (sort, is_descending != self.is_reversed, &self.filter)
    }

    /// Takes an answer of the API. The session that is chosen stays so, wherever it stands now.
    pub(super) fn take(&mut self, answer: &Value) {
        let chosen = self.chosen_id();
        self.sessions = answer["sessions"].as_array().cloned().unwrap_or_default();
        self.live = answer["live"].as_u64().unwrap_or_default();
        self.matching = answer["matching"].as_u64().unwrap_or_default();
        let place = chosen.and_then(|id| self.sessions.iter().position(|one| one["id"] == id.as_str()));
        match place {
            Some(place) => self.chosen.select(Some(place)),
            None => {
                if self.mode == Mode::Details {
                    self.mode = Mode::List;
                    self.notice = Some("the session has ended".into());
                }
                let last = self.sessions.len().checked_sub(1);
                self.chosen.select(last.map(|last| self.chosen.selected().unwrap_or(0).min(last)));
            }
        }
    }

    /// Says something until the next key.
    pub(super) fn tell(&mut self, text: String) {
        self.notice = Some(text);
    }

    fn chosen(&self) -> Option<&Value> {
        self.sessions.get(self.chosen.selected()?)
    }

    fn chosen_id(&self) -> Option<String> {
        self.chosen()?["id"].as_str().map(str::to_owned)
    }

    /// Does what a key means.
    pub(super) fn press(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        self.notice = None;
        match &mut self.mode {
            Mode::Filter { .. } => self.type_filter(key.code),
            Mode::Reason { .. } => self.type_reason(key.code),
            Mode::List | Mode::Details => self.command(key.code),
        }
    }

    fn command(&mut self, key: KeyCode) -> Action {
        let last = self.sessions.len().saturating_sub(1);
        let at = self.chosen.selected().unwrap_or(0);
        match key {
            KeyCode::Esc if self.mode == Mode::Details => self.mode = Mode::List,
            KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.choose(at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose((at + 1).min(last)),
            KeyCode::PageUp => self.choose(at.saturating_sub(10)),
            KeyCode::PageDown => self.choose((at + 10).min(last)),
            KeyCode::Home => self.choose(0),
            KeyCode::End => self.choose(last),
            KeyCode::Enter if self.chosen().is_some() => {
                self.mode = if self.mode == Mode::List { Mode::Details } else { Mode::List };
            }
            KeyCode::Char('s') => {
                self.sort = (self.sort + 1) % SORTS.len();
                return Action::Refresh;
            }
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                return Action::Refresh;
            }
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.mode = Mode::Filter { before: self.filter.clone() },
            KeyCode::Char('e') => {
                if let Some(session) = self.chosen_id() {
                    self.mode = Mode::Reason { session, text: String::new() };
                }
            }
            _ => {}
        }
        Action::Draw
    }

    fn choose(&mut self, place: usize) {
        self.chosen.select((!self.sessions.is_empty()).then_some(place));
    }

    fn type_filter(&mut self, key: KeyCode) -> Action {
        let Mode::Filter { before } = &mut self.mode else { return Action::Draw };
        match key {
            KeyCode::Esc => {
                self.filter = std::mem::take(before);
                self.mode = Mode::List;
            }
            KeyCode::Enter => self.mode = Mode::List,
            key => edit(&mut self.filter, key),
        }
        Action::Refresh
    }

    fn type_reason(&mut self, key: KeyCode) -> Action {
        let Mode::Reason { session, text } = &mut self.mode else { return Action::Draw };
        match key {
            KeyCode::Esc => self.mode = Mode::List,
            KeyCode::Enter if text.trim().is_empty() => {
                self.notice = Some("an end has a reason: it stands in the log".into());
            }
            KeyCode::Enter => {
                let (session, reason) = (std::mem::take(session), std::mem::take(text));
                self.mode = Mode::List;
                return Action::End { session, reason };
            }
            key => edit(text, key),
        }
        Action::Draw
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let parts = [Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)];
        let [head, body, foot] = Layout::vertical(parts).areas(frame.area());
        let (sort, is_descending, filter) = self.query();
        let filter = if filter.is_empty() { String::new() } else { format!("  filter: {filter}") };
        let paused = if self.is_paused { "  PAUSED" } else { "" };
        let order = if is_descending { "▼" } else { "▲" };
        let title = format!(
            "{}: {} live, {} match  sort: {sort} {order}{filter}{paused}",
            self.address, self.live, self.matching
        );
        frame.render_widget(Line::from(title).style(Modifier::BOLD), head);
        match self.mode {
            Mode::Details => self.draw_details(frame, body),
            _ => self.draw_table(frame, body),
        }
        let foot_text = match (&self.mode, &self.notice) {
            (_, Some(notice)) => notice.clone(),
            (Mode::Filter { .. }, None) => format!("filter (Enter to keep, Esc to undo): {}▏", self.filter),
            (Mode::Reason { session, text }, None) => format!("end {session}, reason (Esc: do not): {text}▏"),
            _ => HELP.to_owned(),
        };
        frame.render_widget(Line::from(foot_text).style(Modifier::REVERSED), foot);
    }

    fn draw_table(&mut self, frame: &mut Frame<'_>, area: ratatui::layout::Rect) {
        let rows: Vec<[String; HEADS.len()]> = self.sessions.iter().map(row).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEADS[column].len()]).max().unwrap_or(0) as u16
        };
        let widths: Vec<_> = (0..HEADS.len()).map(|column| Constraint::Length(width(column))).collect();
        let rows = rows.into_iter().map(|row| {
            let is_clear = row[3] == "NO TLS" || row[4] == "NO TLS";
            let style = if is_clear { Style::new().red() } else { Style::new() };
            Row::new(row.map(Cell::from)).style(style)
        });
        let table = Table::new(rows, widths)
            .header(Row::new(HEADS).style(Modifier::UNDERLINED))
            .column_spacing(2)
            .row_highlight_style(Modifier::REVERSED);
        frame.render_stateful_widget(table, area, &mut self.chosen);
    }

    fn draw_details(&self, frame: &mut Frame<'_>, area: ratatui::layout::Rect) {
        let Some(session) = self.chosen() else { return };
        let lines: Vec<_> = detail_lines(session).into_iter().map(Line::from).collect();
        let block = Block::bordered().title(" Session: Enter or Esc to the list ");
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
    }
}

fn edit(text: &mut String, key: KeyCode) {
    match key {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char(c) if !c.is_control() && text.len() + c.len_utf8() <= MAX_TEXT => text.push(c),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn answer(ids: &[&str]) -> Value {
        let session = |id: &&str| {
            json!({
                "id": id, "route": "api", "identity": { "subject": format!("ann of {id}") },
                "client": { "tls": true, "version": "TLSv1.3", "group": "X25519MLKEM768", "cipher": "AES" },
                "upstream": { "tls": false, "version": "none" }, "badges": ["plaintext hop"],
                "age_seconds": 61.2, "up_bytes": 10, "down_bytes": 1_536, "up_rate": 0.0, "down_rate": 2_048.0,
                "requests": 3, "remote": "127.0.0.1:5",
            })
        };
        json!({ "live": 9, "matching": ids.len(), "sessions": ids.iter().map(session).collect::<Vec<_>>() })
    }

    fn shown(screen: &mut Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(150, 20)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Action {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn write(screen: &mut Screen, text: &str) {
        text.chars().for_each(|c| drop(press(screen, KeyCode::Char(c))));
    }

    #[test]
    fn the_table_shows_both_legs_and_enter_shows_one_session() {
        let mut screen = Screen::new("gw:9901", "rate", None);
        screen.take(&answer(&["aa", "bb"]));
        let text = shown(&mut screen);
        for wanted in
            ["gw:9901: 9 live, 2 match", "TLSv1.3 X25519MLKEM768", "NO TLS", "ann of aa", "1m1s", "q quit"]
        {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
        assert_eq!(press(&mut screen, KeyCode::Down), Action::Draw);
        press(&mut screen, KeyCode::Enter);
        let text = shown(&mut screen);
        assert!(
            text.contains("ann of bb") && !text.contains("ann of aa") && text.contains("plaintext hop"),
            "{text}"
        );
        press(&mut screen, KeyCode::Esc);
        assert!(shown(&mut screen).contains("ann of aa"));
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Action::Quit);
    }

    #[test]
    fn what_is_chosen_stays_chosen_when_others_come_before_it_and_the_end_of_it_is_told() {
        let mut screen = Screen::new("gw", "rate", None);
        screen.take(&answer(&["aa", "bb"]));
        press(&mut screen, KeyCode::End);
        screen.take(&answer(&["cc", "dd", "bb"]));
        assert_eq!(screen.chosen_id().unwrap(), "bb");
        press(&mut screen, KeyCode::Enter);
        screen.take(&answer(&["cc"]));
        assert_eq!(screen.chosen_id().unwrap(), "cc");
        assert!(shown(&mut screen).contains("the session has ended"));
        screen.take(&answer(&[]));
        assert_eq!(press(&mut screen, KeyCode::Enter), Action::Draw);
        assert!(shown(&mut screen).contains("SESSION"));
    }

    #[test]
    fn a_filter_is_asked_for_as_it_is_typed_and_undone_by_escape() {
        let mut screen = Screen::new("gw", "rate", Some("old"));
        press(&mut screen, KeyCode::Char('/'));
        write(&mut screen, "er");
        assert_eq!(press(&mut screen, KeyCode::Backspace), Action::Refresh);
        assert_eq!(screen.query(), ("rate", true, "olde"));
        press(&mut screen, KeyCode::Esc);
        assert_eq!(screen.query(), ("rate", true, "old"));
        assert_eq!(press(&mut screen, KeyCode::Char('s')), Action::Refresh);
        assert_eq!(press(&mut screen, KeyCode::Char('r')), Action::Refresh);
        assert_eq!(screen.query(), ("age", false, "old"));
    }

    #[test]
    fn an_end_wants_a_reason_and_escape_takes_it_back() {
        let mut screen = Screen::new("gw", "rate", None);
        screen.take(&answer(&["aa", "bb"]));
        press(&mut screen, KeyCode::Char('e'));
        assert_eq!(press(&mut screen, KeyCode::Enter), Action::Draw);
        assert!(shown(&mut screen).contains("an end has a reason"));
        write(&mut screen, "quiet");
        assert!(shown(&mut screen).contains("end aa, reason (Esc: do not): quiet"));
        press(&mut screen, KeyCode::Esc);
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Char('e'));
        write(&mut screen, "looked wrong");
        let ended = Action::End { session: "bb".into(), reason: "looked wrong".into() };
        assert_eq!(press(&mut screen, KeyCode::Enter), ended);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.press(interrupt), Action::Quit);
    }
}
