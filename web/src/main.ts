import { createApp } from "vue";

import "element-plus/es/components/base/style/css";
import "element-plus/es/components/message/style/css";
import "element-plus/es/components/message-box/style/css";
import App from "./App.vue";
import { setupElementPlus } from "./elementPlus";
import { i18n } from "./i18n";
import { router } from "./router";

// after Element Plus, whose values they replace
import "./styles/tokens.css";
import "./styles/base.css";

const app = createApp(App);
setupElementPlus(app);
app.use(i18n).use(router).mount("#app");
