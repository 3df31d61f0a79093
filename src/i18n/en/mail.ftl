# Messages by mail.
mail-app = App
mail-account = Account
mail-who = Who
mail-when = When
mail-from = From address
mail-browser = Browser
mail-until = Valid until
mail-by = By
mail-by-you = you, when you were logged in
mail-by-administrator = an administrator
mail-method = Kind
mail-method-totp = authenticator app
mail-code = Your activation code:
mail-open = Log in here:
mail-foot = This message was sent by Sluis, which guards the login. It sends no links to log in by, other than to the app itself, and nobody will ever ask you for a code. You cannot answer this message.
mail-you = Was that you? Then there is nothing to do.
mail-not-you = Was it not you? Tell your administrator at once, and change your password.
mail-not-asked = Did you not ask for this? Tell your administrator at once.
mail-wrong-not-you = Was it not you? Then somebody else knows your password: change it at once, and tell your administrator. Nobody got in.
mail-month =
    { $month ->
        [1] January
        [2] February
        [3] March
        [4] April
        [5] May
        [6] June
        [7] July
        [8] August
        [9] September
        [10] October
        [11] November
       *[other] December
    }

mail-added-title = A new authenticator was linked
mail-added-text = An authenticator was linked to your account. From now on its codes are accepted when you log in.
mail-removed-title = An authenticator was removed
mail-removed-text = An authenticator was removed from your account. Its codes are no longer accepted, and you are logged out everywhere.
mail-reset-title = Your second factor was reset
mail-reset-text = All authenticators of your account were removed, and you are logged out everywhere.
mail-reset-next = At your next login you link an authenticator again. Delete the old entry in your authenticator app.
mail-signed-out-title = You were logged out everywhere
mail-signed-out-text = All sessions of your account were ended, on all devices. You can log in again; a code will be asked.
mail-wait-title = Wrong codes were typed
mail-wait-text = Somebody logged in with your password and then typed wrong codes. For a while no code is accepted.
mail-wait-you = Was that you? Wait as long as the page says, then type the newest code of your authenticator app.
mail-locked-title = Your account is locked
mail-locked-text = Somebody logged in with your password and then typed very many wrong codes. No code is accepted any more.
mail-locked-you = Was that you? Ask your administrator to help you.
mail-invite-title = Activate your second factor
mail-invite-text = From now on you log in with your password and a code of an authenticator app on your phone.
mail-invite-how = Log in with your password as you always do. When you are asked for it, type the activation code below; then link your authenticator app.
mail-invite-secret = This code works once, together with your password. Give it to nobody, also not to someone who says to be an administrator.
mail-changed-title = Your details were changed
mail-changed-email = The e-mail address of your account was changed. This message goes to the old and to the new address.
mail-changed-number = The telephone number of your account was changed.
mail-device-title = A login on a new device
mail-device-text = Somebody logged in to your account on a device or in a browser that had not been used for it before.
mail-emergency-title = Emergency access was used
mail-emergency-text = Somebody logged in with an emergency code in place of a second factor.
mail-emergency-check = Check that this was agreed. If it was not: block the account (`sluis user block`) and look at the audit log. Make new emergency codes in any case.
mail-test-title = Test message
mail-test-text = Mail from Sluis arrives here. Nothing has happened, and there is nothing to do.
mail-method-recovery = recovery code
mail-recovery-title = New recovery codes were made
mail-recovery-text = Recovery codes were made for your account. Codes that you had before do not work any more.
mail-recovered-title = A recovery code was used
mail-recovered-text = Somebody logged in to your account with your password and a recovery code. That code cannot be used again.
