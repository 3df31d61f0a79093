recovery-title = Herstelcodes
recovery-new-title = Uw nieuwe herstelcodes
recovery-lead = Met een herstelcode kunt u inloggen als u uw authenticator niet bij de hand hebt. Elke code werkt één keer. Bewaar ze op papier op een veilige plek, niet op dezelfde telefoon.
recovery-once = Deze codes ziet u alleen nu. Codes die u eerder had, werken niet meer.
recovery-keep = Schrijf ze op of print deze pagina, en bewaar ze op een veilige plek. Elke code werkt één keer, samen met uw wachtwoord.
recovery-print = Sluit deze pagina als u de codes hebt: wie haar ziet, kan ze gebruiken.
recovery-left =
    { $count ->
        [one] Er is één code over
       *[other] Er zijn { $count } codes over
    }
recovery-made = gemaakt
recovery-used = Gebruikt
recovery-few = U hebt nog maar weinig herstelcodes. Maak nu nieuwe.
recovery-again-hint = Nieuwe codes komen in de plaats van alle codes die u nu hebt.
recovery-make = Herstelcodes maken
recovery-again = Nieuwe codes maken
recovery-offer-title = Uw authenticator is gekoppeld
recovery-offer-text = Maak ook herstelcodes: daarmee kunt u nog inloggen als uw telefoon kwijt of kapot is.
recovery-passed-title = U bent ingelogd
recovery-passed-text = U hebt ingelogd met een herstelcode. Die kan niet nog eens worden gebruikt.
challenge-recovery-lead = Typ een van de herstelcodes die u hebt bewaard.
recovery-label = Herstelcode
recovery-hint = 24 letters en cijfers. Kleine letters, spaties en streepjes maken niet uit.
recovery-help-list = Elke code werkt één keer. Neem er een die u nog niet hebt doorgestreept.
other-recovery = Met een herstelcode
wrong-empty-recovery = Typ een van uw herstelcodes.
wrong-used-recovery = Elke herstelcode werkt één keer. Neem een andere.
wrong-recovery = Kijk of u hem helemaal hebt getypt, en of hij van de nieuwste lijst is: met nieuwe codes vervallen de oude.
