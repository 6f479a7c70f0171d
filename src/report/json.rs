//! The reporter for programs: one event a line, exactly as `event` serialises it; `docs` documents it.

use super::Reporter;
use super::printer::Printer;
use crate::event::Stamped;

/// Writes every event as one line of JSON.
#[derive(Debug)]
pub struct Json {
    out: Printer,
}

impl Json {
    /// Events on `out`.
    pub fn new(out: Printer) -> Self {
        Self { out }
    }
}

impl Reporter for Json {
    fn event(&mut self, stamped: &Stamped) {
        // Serialising fails only for maps whose keys are no strings, and events hold none.
        if let Ok(json) = serde_json::to_string(stamped) {
            self.out.line(&unobeyed(&json));
        }
    }

    fn finish(&mut self) {}
}

/// The same JSON without the openings that a CI finds anywhere in a line.
fn unobeyed(json: &str) -> String {
    json.replace("##", "#\\u0023")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, VERSION};
    use crate::report::rehearsal::{self, Page};
    use insta::assert_snapshot;

    #[test]
    fn a_deploy_is_one_event_a_line() {
        let page = Page::default();
        rehearsal::play(&rehearsal::interrupted(), &mut Json::new(Printer::new(page.clone())));
        assert_snapshot!(page.text(), @r#"
        {"v":1,"seq":0,"time":"2026-11-21T11:30:00.000Z","at_millis":0,"event":"run_started","action":"deploy","app":"tsosi","environment":"prod","hosts":["web1","web2","db1"],"revision":"3f9c2d1a8b7e6d5c4b3a29181716151413121110","description":"main: Fix the search box (Ada Lovelace)"}
        {"v":1,"seq":1,"time":"2026-11-21T11:30:00.000Z","at_millis":0,"event":"phase_started","phase":"connect","hosts":["web1","web2","db1"],"batch":null}
        {"v":1,"seq":2,"time":"2026-11-21T11:30:00.380Z","at_millis":380,"event":"host_connected","host":"web1","address":"deployer@web1.example.org:22","millis":380}
        {"v":1,"seq":3,"time":"2026-11-21T11:30:00.500Z","at_millis":500,"event":"host_connected","host":"web2","address":"deployer@web2.example.org:22","millis":500}
        {"v":1,"seq":4,"time":"2026-11-21T11:30:00.620Z","at_millis":620,"event":"host_connected","host":"db1","address":"deployer@db1.example.org:22","millis":620}
        {"v":1,"seq":5,"time":"2026-11-21T11:30:00.640Z","at_millis":640,"event":"task_started","host":"web1","task":0,"phase":"connect","name":"Look at what is there","command":null,"own":false}
        {"v":1,"seq":6,"time":"2026-11-21T11:30:00.640Z","at_millis":640,"event":"task_started","host":"web2","task":1,"phase":"connect","name":"Look at what is there","command":null,"own":false}
        {"v":1,"seq":7,"time":"2026-11-21T11:30:00.640Z","at_millis":640,"event":"task_started","host":"db1","task":2,"phase":"connect","name":"Look at what is there","command":null,"own":false}
        {"v":1,"seq":8,"time":"2026-11-21T11:30:00.790Z","at_millis":790,"event":"task_finished","host":"web1","task":0,"phase":"connect","name":"Look at what is there","result":"done","own":false,"millis":150}
        {"v":1,"seq":9,"time":"2026-11-21T11:30:00.890Z","at_millis":890,"event":"task_finished","host":"web2","task":1,"phase":"connect","name":"Look at what is there","result":"done","own":false,"millis":250}
        {"v":1,"seq":10,"time":"2026-11-21T11:30:00.990Z","at_millis":990,"event":"task_finished","host":"db1","task":2,"phase":"connect","name":"Look at what is there","result":"done","own":false,"millis":350}
        {"v":1,"seq":11,"time":"2026-11-21T11:30:01.010Z","at_millis":1010,"event":"phase_finished","phase":"connect","millis":1010}
        {"v":1,"seq":12,"time":"2026-11-21T11:30:01.010Z","at_millis":1010,"event":"release_chosen","release":"20261121T113001Z-3f9c2d1"}
        {"v":1,"seq":13,"time":"2026-11-21T11:30:01.500Z","at_millis":1500,"event":"warning","host":null,"text":"interrupted: finishing what runs\nagain to stop at once"}
        {"v":1,"seq":14,"time":"2026-11-21T11:30:01.600Z","at_millis":1600,"event":"run_finished","outcome":"interrupted","exit_code":130,"action":"deploy","hosts":[{"host":"web1","before":"20261120T091211Z-77ab01c","after":"20261120T091211Z-77ab01c","state":"unchanged","why":null,"commands":[]},{"host":"web2","before":"20261120T091211Z-77ab01c","after":"20261120T091211Z-77ab01c","state":"unchanged","why":null,"commands":[]},{"host":"db1","before":"20261120T091211Z-77ab01c","after":"20261120T091211Z-77ab01c","state":"unchanged","why":null,"commands":[]}],"millis":1600,"hints":[]}
        "#);
    }

    #[test]
    fn what_a_ci_would_obey_reads_the_same_and_is_not_obeyed() {
        let text = "##[error]x ###[y]".to_owned();
        let event = Event::Notice { host: None, text: text.clone() };
        let stamped = Stamped { v: VERSION, seq: 0, time: String::new(), at_millis: 0, event };
        let page = Page::default();
        Json::new(Printer::new(page.clone())).event(&stamped);
        let line = page.text();
        assert!(!line.contains("##["), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["text"], text);
    }
}
