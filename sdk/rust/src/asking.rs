//! What is asked for by awaiting what describes it.

/// Lets `.await` do what the method does.
macro_rules! asking {
    ($what:ident<'a>, $method:ident, $given:ty) => {
        impl<'a> IntoFuture for $what<'a> {
            type Output = Result<$given, $crate::Error>;
            type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.$method())
            }
        }
    };
}

pub(crate) use asking;
