//! The settings file of every host, read.

use super::look::Look;
use crate::dotenv::File;
use crate::error::{Error, Kind};
use crate::fleet::{Answer, ask, each};
use crate::plan::env::{MISSING, Place};
use crate::session::Status;

/// The settings of one host.
pub struct Settings {
    /// The host.
    pub host: String,
    /// Where the file is.
    pub place: Place,
    /// What is in it; nothing where it is not there.
    pub file: File,
    /// Everybody on the host may read it.
    pub open: bool,
}

/// Reads the settings of every host that answered, in the order of the members. One that cannot be read is an
/// error that names its place and no value. `pushed` is the file that is to replace it.
pub async fn read(look: &Look, pushed: Option<&str>) -> Result<Vec<Settings>, Error> {
    let mut places = Vec::new();
    for member in &look.members {
        let host = look.project.host(&member.name);
        let file = host.map_or_else(|| Ok(".env".to_owned()), |host| look.project.env_file(host, pushed))?;
        places.push(Place::new(&member.layout, &file));
    }
    let answers = each(&look.members, |index, member| {
        let place = places.get(index).cloned();
        async move {
            let Some(place) = place else { return Ok((Answer::default(), false)) };
            let open = ask(member.session.as_ref(), vec![place.is_open()]).await?;
            let text = ask(member.session.as_ref(), vec![place.read()]).await?;
            Ok((text.into_iter().next().unwrap_or_default(), open.iter().all(Answer::success)))
        }
    })
    .await;
    let mut settings = Vec::new();
    let mut wrong: Vec<String> = Vec::new();
    for ((answer, place), member) in answers.into_iter().zip(places).zip(&look.members) {
        let host = member.name.clone();
        let found = answer.map_err(|lost: crate::session::Lost| lost.to_string()).and_then(|(answer, open)| {
            let file = match answer.status {
                Some(Status::Exited(0)) => {
                    File::parse(&answer.stdout).map_err(|problem| format!("{}:{problem}", place.path()))?
                }
                Some(Status::Exited(MISSING)) => File::default(),
                _ => return Err(answer.last_line()),
            };
            Ok((file, open))
        });
        match found {
            Ok((file, open)) => settings.push(Settings { host, place, file, open }),
            Err(why) => wrong.push(format!("{host}: {why}")),
        }
    }
    if wrong.is_empty() { Ok(settings) } else { Err(Error::new(Kind::Refused, wrong.join("\n"))) }
}
