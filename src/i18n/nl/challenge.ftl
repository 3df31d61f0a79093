challenge-title = Voer uw code in
challenge-title-again = Bevestig dat u het bent
challenge-lead = Open de authenticator-app op uw telefoon en typ de code van zes cijfers voor { $issuer }.
challenge-again-lead = Uw vorige code is een tijd geleden. Typ een nieuwe code, dan gaat u verder waar u was.
code-label = Code van zes cijfers
code-hint = De app toont elke 30 seconden een nieuwe code.
challenge-submit = Inloggen
challenge-again-submit = Doorgaan
challenge-remember = Op dit apparaat vragen we u { $time } lang niet opnieuw om een code, zolang hier niemand anders inlogt.
challenge-other = Inloggen als iemand anders
challenge-others = Op een andere manier
other-totp = Met uw authenticator-app
challenge-help = Werkt de code niet, of hebt u uw telefoon niet bij u?
challenge-help-newest = Gebruik de nieuwste code. Is de tijd ernaast bijna om? Wacht dan op de volgende.
challenge-help-account = Zoek { $issuer } met uw eigen gebruikersnaam: in uw app kunnen ook codes van andere accounts staan.
challenge-help-clock = Zet de datum en tijd van uw telefoon op automatisch.
challenge-help-lost = Nieuwe telefoon, of de app verwijderd? Vraag uw beheerder om uw tweestapsverificatie te resetten.

# Onjuiste codes.
wrong-title = Deze code klopt niet
wrong-check = Controleer het volgende en probeer het opnieuw:
wrong-empty-title = Vul de code in
wrong-empty = De code bestaat uit zes cijfers. U vindt hem in uw authenticator-app.
wrong-form-title = Een code bestaat uit zes cijfers
wrong-form = Typ alleen de zes cijfers die uw authenticator-app nu toont.
wrong-used-title = Deze code is al gebruikt
wrong-used = Elke code werkt één keer. Wacht tot uw app de volgende code toont en typ die.
wrong-clock-title = De klok van uw telefoon loopt niet gelijk
wrong-clock-ahead = Uw telefoon loopt ongeveer { $time } voor. Daardoor kloppen de codes ook niet.
wrong-clock-behind = Uw telefoon loopt ongeveer { $time } achter. Daardoor kloppen de codes ook niet.
wrong-clock-fix = Zet de datum en tijd van uw telefoon op automatisch en typ daarna de nieuwe code.
wrong-wait = Na zo veel onjuiste codes kunt u het over { $time } opnieuw proberen.

# In plaats van het formulier.
wait-title = Een ogenblik geduld
wait-text = Er is te vaak een onjuiste code ingevoerd. Voor uw veiligheid kunt u het over { $time } opnieuw proberen.
wait-again = Opnieuw proberen
locked-title = Inloggen is geblokkeerd
locked-text = Voor dit account is te vaak een onjuiste code ingevoerd. Vraag uw beheerder om uw tweestapsverificatie te resetten.
locked-not-you = Hebt u dit niet zelf gedaan? Meld het aan uw beheerder: iemand kent mogelijk uw wachtwoord.
none-title = Tweestapsverificatie is nog niet ingesteld
none-text = Voor { $app } is een tweede stap nodig. Die kunt u vanaf deze plek niet instellen.
none-ask = Vraag uw beheerder hoe u dit kunt instellen.
expired-title = Log opnieuw in
expired-text = U hebt het inloggen niet op tijd afgerond, of al in een ander tabblad afgerond. Er is niets verloren gegaan: log gewoon opnieuw in.

# Uitloggen.
logout-title = Uitloggen
logout-text = Wilt u uitloggen bij { $app }?
logout-submit = Uitloggen
logout-stay = Ingelogd blijven
signed-out-title = U bent uitgelogd
signed-out-text = U kunt deze pagina nu sluiten.
signed-out-again = Opnieuw inloggen
