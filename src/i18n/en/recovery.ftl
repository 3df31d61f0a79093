recovery-title = Recovery codes
recovery-new-title = Your new recovery codes
recovery-lead = A recovery code lets you log in when you do not have your authenticator at hand. Each code works once. Keep them on paper in a safe place, not on the same phone.
recovery-once = These codes are shown only now. Codes that you had before do not work any more.
recovery-keep = Write them down or print this page, and keep them in a safe place. Each code works once, together with your password.
recovery-print = Close this page when you have them: whoever sees it can use them.
recovery-left =
    { $count ->
        [one] One code is left
       *[other] { $count } codes are left
    }
recovery-made = made
recovery-used = Used
recovery-few = You have few recovery codes left. Make new ones now.
recovery-again-hint = New codes take the place of all that you have now.
recovery-make = Make recovery codes
recovery-again = Make new codes
recovery-offer-title = Your authenticator is linked
recovery-offer-text = Make recovery codes as well: with one of those you can still log in when your phone is lost or broken.
recovery-passed-title = You are logged in
recovery-passed-text = You logged in with a recovery code. It cannot be used again.
challenge-recovery-lead = Type one of the recovery codes that you kept.
recovery-label = Recovery code
recovery-hint = 24 letters and digits. Small letters, spaces and dashes do not matter.
recovery-help-list = Each code works once. Take one that you have not crossed off yet.
other-recovery = With a recovery code
wrong-empty-recovery = Type one of your recovery codes.
wrong-used-recovery = Every recovery code works once. Take another one.
wrong-recovery = Look whether you typed all of it, and whether it is from the newest list: new codes end older ones.
