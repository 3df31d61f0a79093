# Berichten per e-mail.
mail-app = Applicatie
mail-account = Account
mail-who = Wie
mail-when = Wanneer
mail-from = Vanaf adres
mail-browser = Browser
mail-until = Geldig tot
mail-by = Door
mail-by-you = u, toen u was ingelogd
mail-by-administrator = een beheerder
mail-method = Soort
mail-method-totp = authenticator-app
mail-code = Uw activeringscode:
mail-open = Log hier in:
mail-foot = Dit bericht is verstuurd door Sluis, dat het inloggen bewaakt. Sluis stuurt geen links om mee in te loggen, behalve naar de applicatie zelf, en niemand zal u ooit om een code vragen. U kunt dit bericht niet beantwoorden.
mail-you = Was u dit zelf? Dan hoeft u niets te doen.
mail-not-you = Was u dit niet? Meld het direct bij uw beheerder en wijzig uw wachtwoord.
mail-not-asked = Hebt u hier niet om gevraagd? Meld het direct bij uw beheerder.
mail-wrong-not-you = Was u dit niet? Dan kent iemand anders uw wachtwoord: wijzig het direct en meld het bij uw beheerder. Er is niemand binnengekomen.
mail-month =
    { $month ->
        [1] januari
        [2] februari
        [3] maart
        [4] april
        [5] mei
        [6] juni
        [7] juli
        [8] augustus
        [9] september
        [10] oktober
        [11] november
       *[other] december
    }

mail-added-title = Er is een nieuwe authenticator gekoppeld
mail-added-text = Er is een authenticator aan uw account gekoppeld. De codes daarvan worden vanaf nu geaccepteerd als u inlogt.
mail-removed-title = Er is een authenticator verwijderd
mail-removed-text = Er is een authenticator van uw account verwijderd. De codes daarvan worden niet meer geaccepteerd en u bent overal uitgelogd.
mail-reset-title = Uw tweede factor is gereset
mail-reset-text = Alle authenticators van uw account zijn verwijderd en u bent overal uitgelogd.
mail-reset-next = Als u weer inlogt, koppelt u opnieuw een authenticator. Verwijder de oude vermelding in uw authenticator-app.
mail-signed-out-title = U bent overal uitgelogd
mail-signed-out-text = Alle sessies van uw account zijn beëindigd, op alle apparaten. U kunt opnieuw inloggen; daarbij wordt om een code gevraagd.
mail-wait-title = Er zijn foute codes ingetypt
mail-wait-text = Iemand heeft met uw wachtwoord ingelogd en daarna foute codes ingetypt. Voorlopig wordt geen code geaccepteerd.
mail-wait-you = Was u dit zelf? Wacht zo lang als de pagina aangeeft en typ dan de nieuwste code van uw authenticator-app.
mail-locked-title = Uw account is vergrendeld
mail-locked-text = Iemand heeft met uw wachtwoord ingelogd en daarna heel veel foute codes ingetypt. Er wordt geen code meer geaccepteerd.
mail-locked-you = Was u dit zelf? Vraag uw beheerder om hulp.
mail-invite-title = Activeer uw tweede factor
mail-invite-text = Vanaf nu logt u in met uw wachtwoord en een code van een authenticator-app op uw telefoon.
mail-invite-how = Log in met uw wachtwoord zoals u gewend bent. Typ de activeringscode hieronder als daarom wordt gevraagd en koppel daarna uw authenticator-app.
mail-invite-secret = Deze code werkt één keer, samen met uw wachtwoord. Geef hem aan niemand, ook niet aan iemand die zegt beheerder te zijn.
mail-changed-title = Uw gegevens zijn gewijzigd
mail-changed-email = Het e-mailadres van uw account is gewijzigd. Dit bericht gaat naar het oude en naar het nieuwe adres.
mail-changed-number = Het telefoonnummer van uw account is gewijzigd.
mail-device-title = Er is ingelogd op een nieuw apparaat
mail-device-text = Er is op uw account ingelogd op een apparaat of in een browser waarmee dat nog niet eerder was gedaan.
mail-emergency-title = Er is noodtoegang gebruikt
mail-emergency-text = Iemand heeft met een noodcode ingelogd, in plaats van met een tweede factor.
mail-emergency-check = Ga na of dit was afgesproken. Zo niet: blokkeer het account (`sluis user block`) en bekijk het auditlogboek. Maak in elk geval nieuwe noodcodes.
mail-test-title = Testbericht
mail-test-text = E-mail van Sluis komt hier aan. Er is niets gebeurd en u hoeft niets te doen.
mail-method-recovery = herstelcode
mail-recovery-title = Er zijn nieuwe herstelcodes gemaakt
mail-recovery-text = Er zijn herstelcodes gemaakt voor uw account. Codes die u eerder had, werken niet meer.
mail-recovered-title = Er is een herstelcode gebruikt
mail-recovered-text = Iemand heeft op uw account ingelogd met uw wachtwoord en een herstelcode. Die code kan niet nog eens worden gebruikt.
