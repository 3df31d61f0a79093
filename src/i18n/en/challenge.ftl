challenge-title = Enter your code
challenge-title-again = Confirm that it is you
challenge-lead = Open the authenticator app on your phone and type the six-digit code for { $issuer }.
challenge-again-lead = Your last code was a while ago. Type a new one and you go on where you were.
code-label = Six-digit code
code-hint = The app shows a new code every 30 seconds.
challenge-submit = Log in
challenge-again-submit = Continue
challenge-remember = You will not be asked for a code again on this device for { $time }, as long as nobody else logs in here.
challenge-other = Log in as somebody else
challenge-others = Another way
other-totp = With your authenticator app
challenge-help = The code does not work, or you do not have your phone?
challenge-help-newest = Use the newest code. When the time next to it is nearly up, wait for the next one.
challenge-help-account = Look for { $issuer } and your own user name: your app may hold codes for other accounts.
challenge-help-clock = Set the date and time of your phone to automatic.
challenge-help-lost = New phone, or app removed? Ask your administrator to reset your two-step verification.

# Wrong codes.
wrong-title = This code is not right
wrong-check = Check the following and try again:
wrong-empty-title = Type the code
wrong-empty = The code has six digits. You find it in your authenticator app.
wrong-form-title = A code has six digits
wrong-form = Type only the six digits that your authenticator app shows now.
wrong-used-title = This code has been used already
wrong-used = Every code works once. Wait until your app shows the next one, then type that.
wrong-clock-title = The clock of your phone is not right
wrong-clock-ahead = Your phone is about { $time } ahead, so its codes are not right either.
wrong-clock-behind = Your phone is about { $time } behind, so its codes are not right either.
wrong-clock-fix = Set the date and time of your phone to automatic, then type the new code.
wrong-wait = After so many wrong codes the next one is taken in { $time }.

# Instead of the form.
wait-title = Please wait a moment
wait-text = There were too many wrong codes. For your safety the next one is taken in { $time }.
wait-again = Try again
locked-title = Logging in is locked
locked-text = There were too many wrong codes for this account. Ask your administrator to reset your two-step verification.
locked-not-you = Did you not try this yourself? Tell your administrator: somebody may know your password.
none-title = Two-step verification is not set up yet
none-text = You need a second step to open { $app }, and it cannot be set up from here.
none-ask = Ask your administrator how to set it up.
expired-title = Log in again
expired-text = Your login was not finished in time, or was finished already in another tab. Nothing is lost: just log in again.

# Signing out.
logout-title = Log out
logout-text = Do you want to log out of { $app }?
logout-submit = Log out
logout-stay = Stay logged in
signed-out-title = You are logged out
signed-out-text = You can close this page now.
signed-out-again = Log in again
