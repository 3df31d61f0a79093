# Shared by all pages.
brand = Secure access
protected-by = Protected by Sluis
language-label = Language
request-id = Request number
error-prefix = Error
logging-in-as = You are logging in as
logged-in-as = You are logged in as
to-login = To the login page
to-app = To { $app }
new-tab = (opens in a new tab)

# Lengths of time, inside sentences.
seconds =
    { $count ->
        [one] 1 second
       *[other] { $count } seconds
    }
minutes =
    { $count ->
        [one] 1 minute
       *[other] { $count } minutes
    }
hours =
    { $count ->
        [one] 1 hour
       *[other] { $count } hours
    }
