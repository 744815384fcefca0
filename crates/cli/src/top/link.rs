//! [`Link`]: what the daemon tells, through its restarts.

use std::time::Duration;

use dynmem_api::{Client, ClientError, Live, LiveQuery, LiveStream};
use tokio::time::sleep;

/// A daemon that is away is looked for so often.
const RETRY: Duration = Duration::from_secs(1);

/// What there is to hear.
#[derive(Debug)]
pub(super) enum News {
    /// From the daemon; a snapshot first, also after it was away.
    Told(Live),
    /// It is away: a sentence.
    Lost(String),
}

/// A connection that comes back by itself.
pub(super) struct Link<'c> {
    client: &'c Client,
    stream: Option<LiveStream>,
}

impl<'c> Link<'c> {
    /// Connects; the first time that fails is an error.
    pub(super) async fn open(client: &'c Client) -> Result<Self, ClientError> {
        Ok(Self { client, stream: Some(client.live(LiveQuery::default()).await?) })
    }

    /// Waits for what comes next. Whoever stops waiting misses nothing.
    pub(super) async fn next(&mut self) -> News {
        let Some(stream) = &mut self.stream else {
            sleep(RETRY).await;
            return match self.client.live(LiveQuery::default()).await {
                Ok(mut stream) => match stream.next().await {
                    Ok(Some(told)) => {
                        self.stream = Some(stream);
                        News::Told(told)
                    }
                    Ok(None) => News::Lost("The daemon has ended".to_owned()),
                    Err(error) => News::Lost(error.to_string()),
                },
                Err(error) => News::Lost(error.to_string()),
            };
        };
        match stream.next().await {
            Ok(Some(told)) => News::Told(told),
            ended => {
                self.stream = None;
                News::Lost(ended.err().map_or_else(|| "The daemon has ended".to_owned(), |error| error.to_string()))
            }
        }
    }
}
